"""Quantised blocks of every type that we read, and their values as the `gguf` package gives them. Run: python tests/golden/gguf_blocks/make.py

blocks.gguf has one tensor [ROWS, COLUMNS] for each type, named as the type; case.safetensors has its values in f32 under the same name. Blocks are
random bytes, so every bit of a block counts; those whose scales came out infinite, NaN or extreme are drawn again. Package versions: case.json.
"""
import os
import sys
from importlib.metadata import version

import gguf
import numpy as np
import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from common import VERSIONS, folder_of, write_case

FOLDER = folder_of(__file__)
ROWS, COLUMNS = 3, 512
TYPES = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS"]
SMALLEST, LARGEST = 1e-4, 1e3


def random_block(kind, size, rng):
    while True:
        block = rng.integers(0, 256, (1, size), dtype=np.uint8)
        with np.errstate(all="ignore"):
            values = gguf.quants.dequantize(block, kind)
        if np.isfinite(values).all() and SMALLEST < np.abs(values).max() < LARGEST:
            return block[0]


if __name__ == "__main__":
    writer = gguf.GGUFWriter(os.path.join(FOLDER, "blocks.gguf"), "llama")
    tensors = {}
    for number, name in enumerate(TYPES):
        kind = gguf.GGMLQuantizationType[name]
        rng = np.random.default_rng(1000 + number)
        per_block, size = gguf.GGML_QUANT_SIZES[kind]
        if name in ("F32", "F16"):
            plain = rng.standard_normal((ROWS, COLUMNS)).astype(np.float32 if name == "F32" else np.float16)
            writer.add_tensor(name, plain)
            tensors[name] = torch.from_numpy(plain.astype(np.float32))
            continue
        rows = np.stack([np.concatenate([random_block(kind, size, rng) for _ in range(COLUMNS // per_block)]) for _ in range(ROWS)])
        writer.add_tensor(name, rows, raw_dtype=kind)
        tensors[name] = torch.from_numpy(gguf.quants.dequantize(rows, kind))
        assert tensors[name].shape == (ROWS, COLUMNS), name
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    read = {t.name: t for t in gguf.GGUFReader(os.path.join(FOLDER, "blocks.gguf")).tensors}
    for name in TYPES:
        assert read[name].tensor_type == gguf.GGMLQuantizationType[name] and list(read[name].shape) == [COLUMNS, ROWS], read[name]
    write_case(FOLDER, tensors, {"made_with": VERSIONS | {"gguf": version("gguf")}, "types": TYPES, "rows": ROWS, "columns": COLUMNS})
