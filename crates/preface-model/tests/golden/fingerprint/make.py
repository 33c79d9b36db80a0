"""The probed matrices of the tiny models under the names and in the layout that llama.cpp's converter gives them.

Run: python crates/preface-model/tests/golden/fingerprint/make.py (made with gguf 0.19.0, safetensors 0.8.0, numpy). The Llama comes with query rows in
the interleaved order of a GGUF, to show that the probe does not look at them; GPT-2's matrices are turned to [out, in].
"""
import os

import gguf
from safetensors.numpy import load_file

HERE = os.path.dirname(os.path.abspath(__file__))
MODELS = os.path.join(HERE, "../../../../../tests/golden")


def write(name, architecture, tensors):
    writer = gguf.GGUFWriter(os.path.join(HERE, f"{name}.gguf"), architecture)
    for tensor, values in tensors.items():
        writer.add_tensor(f"{tensor}.weight", values.copy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    llama = load_file(os.path.join(MODELS, "tiny_llama/model/model.safetensors"))
    query = llama["model.layers.0.self_attn.q_proj.weight"]
    heads = query.reshape(6, 2, 5, 48).swapaxes(1, 2).reshape(query.shape)
    write("tiny_llama", "llama", {
        "blk.0.attn_q": heads,
        "blk.0.attn_v": llama["model.layers.0.self_attn.v_proj.weight"],
        "blk.1.ffn_down": llama["model.layers.1.mlp.down_proj.weight"],
        "blk.2.attn_output": llama["model.layers.2.self_attn.o_proj.weight"],
    })
    gpt2 = load_file(os.path.join(MODELS, "tiny_gpt2/model/model.safetensors"))
    last = max(int(name.split(".")[2]) for name in gpt2 if name.startswith("transformer.h."))
    write("tiny_gpt2", "gpt2", {
        "blk.0.attn_qkv": gpt2["transformer.h.0.attn.c_attn.weight"].T,
        f"blk.{(last + 1) // 2}.ffn_down": gpt2[f"transformer.h.{(last + 1) // 2}.mlp.c_proj.weight"].T,
        f"blk.{last}.attn_output": gpt2[f"transformer.h.{last}.attn.c_proj.weight"].T,
    })
