"""A GPT-2 in F16, its tensors named as in the published gpt2 files: without the prefix `transformer.`, with the causal masks `h.N.attn.bias`.
Run: python tests/golden/tiny_gpt2_f16/make.py

The case is computed in f32 from the stored f16 values. n_inner is given and differs from 4 * n_embd. Package versions: case.json.
"""
import os
import sys

import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from common import folder_of, randomise, write_language_model_case
from transformers import GPT2Config, GPT2LMHeadModel

FOLDER = folder_of(__file__)


def build():
    config = GPT2Config(vocab_size=71, n_positions=32, n_embd=28, n_layer=2, n_head=7, n_inner=60, bos_token_id=70, eos_token_id=70)
    return randomise(GPT2LMHeadModel(config), seed=50)


if __name__ == "__main__":
    folder = os.path.join(FOLDER, "model")
    build().half().save_pretrained(folder)
    path = os.path.join(folder, "model.safetensors")
    tensors = {name.removeprefix("transformer."): t for name, t in load_file(path).items()}
    for layer in range(2):
        tensors[f"h.{layer}.attn.bias"] = torch.tril(torch.ones(32, 32, dtype=torch.float16))[None, None]
    save_file(tensors, path, metadata={"format": "pt"})
    model, info = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    assert not info["missing_keys"] and not info["mismatched_keys"], info
    write_language_model_case(FOLDER, model.eval(), seed=500)
