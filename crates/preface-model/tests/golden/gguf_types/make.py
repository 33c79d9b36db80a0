"""Makes case.gguf, a GGUF file with one tensor of each type that is read, and expected.safetensors, the f32 values that
the `gguf` package gives them.

Versions: gguf 0.19.0, numpy 2.4.6, safetensors 0.8.0.   Run: python make.py   (rewrites both files, same bytes each time)

`gguf.quantize` knows only some types. The blocks of the others are random bytes whose scales (half precision) are set to
moderate numbers of either sign: a decoder must get every bit pattern right, not only those that a quantiser writes.
"""

from pathlib import Path

import gguf
import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as Type
from safetensors.numpy import save_file

HERE = Path(__file__).parent
random = np.random.default_rng(20210801)

# Where the half-precision scales stand in a block.
SCALES_AT = {
    Type.Q8_0: [0], Type.Q4_0: [0], Type.Q4_1: [0, 2], Type.Q5_0: [0], Type.Q5_1: [0, 2], Type.Q2_K: [80, 82],
    Type.Q3_K: [108], Type.Q4_K: [0, 2], Type.Q5_K: [0, 2], Type.Q6_K: [208], Type.IQ4_NL: [0], Type.IQ4_XS: [0],
}


def random_blocks(kind: Type, n_rows: int, blocks_per_row: int) -> np.ndarray:
    _, n_bytes = GGML_QUANT_SIZES[kind]
    blocks = random.integers(0, 256, (n_rows * blocks_per_row, n_bytes), dtype=np.uint8)
    for at in SCALES_AT[kind]:
        blocks[:, at : at + 2] = random.normal(0, 0.05, (len(blocks), 1)).astype(np.float16).view(np.uint8)
    return blocks.reshape(n_rows, blocks_per_row * n_bytes)


writer = gguf.GGUFWriter(HERE / "case.gguf", "llama")
writer.add_string("test.string", "Präfix")
writer.add_uint8("test.u8", 200)
writer.add_int8("test.i8", -5)
writer.add_uint16("test.u16", 60000)
writer.add_int16("test.i16", -30000)
writer.add_uint32("test.u32", 4_000_000_000)
writer.add_int32("test.i32", -2_000_000_000)
writer.add_uint64("test.u64", 1 << 63)
writer.add_float32("test.f32", 0.5)
writer.add_float64("test.f64", 0.25)
writer.add_bool("test.bool", True)
writer.add_key_value("test.i64", -(1 << 62), gguf.GGUFValueType.INT64)
writer.add_array("test.strings", ["a", "", "ß"])
writer.add_array("test.numbers", [1, 2, 3])
writer.add_array("test.floats", [0.5, -1.5])
writer.add_array("test.flags", [True, False])

expected = {}


def add(name: str, data: np.ndarray, kind: Type) -> None:
    writer.add_tensor(name, data, raw_dtype=kind)
    expected[name] = np.ascontiguousarray(gguf.dequantize(data, kind), dtype=np.float32)
    assert np.isfinite(expected[name]).all(), name


plain = random.normal(0, 1, (3, 5)).astype(np.float32)
add("F32", plain, Type.F32)
add("F16", plain.astype(np.float16), Type.F16)
add("BF16", gguf.quantize(plain, Type.BF16), Type.BF16)
add("cube.F32", random.normal(0, 1, (2, 3, 4)).astype(np.float32), Type.F32)
for kind in SCALES_AT:
    block_len, _ = GGML_QUANT_SIZES[kind]
    add(kind.name, random_blocks(kind, 3, 2), kind)
    if kind in (Type.Q8_0, Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1):
        values = random.normal(0, 1, (2, block_len)).astype(np.float32)
        add(f"quantised.{kind.name}", gguf.quantize(values, kind), kind)

writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
save_file(expected, HERE / "expected.safetensors")
