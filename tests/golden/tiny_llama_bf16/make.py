"""A Llama stored in BF16 whose config has the older form (`rope_theta`, `rope_scaling`, `torch_dtype`) and linear rotary scaling.
Run: python tests/golden/tiny_llama_bf16/make.py

The case is computed in f32 from the stored bf16 values. head_dim is absent from the config: it follows from hidden / heads. Versions: case.json.
"""
import json
import os
import sys

import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from common import edit_config, folder_of, randomise, write_language_model_case
from transformers import LlamaConfig, LlamaForCausalLM

FOLDER = folder_of(__file__)


def build():
    config = LlamaConfig(
        vocab_size=61,
        hidden_size=32,
        intermediate_size=44,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=1,
        max_position_embeddings=128,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.5},
        bos_token_id=1,
        eos_token_id=2,
    )
    return randomise(LlamaForCausalLM(config), seed=40)


def to_older_form(config):
    rope = config.pop("rope_parameters")
    config["torch_dtype"] = config.pop("dtype")
    config["rope_theta"] = rope["rope_theta"]
    config["rope_scaling"] = {"type": "linear", "factor": rope["factor"]}
    del config["head_dim"]


if __name__ == "__main__":
    folder = os.path.join(FOLDER, "model")
    build().bfloat16().save_pretrained(folder)
    edit_config(folder, to_older_form)
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    inv_freq = model.model.rotary_emb.inv_freq
    assert torch.allclose(inv_freq, 10000.0 ** (-torch.arange(0, 8, 2) / 8) / 2.5), inv_freq
    write_language_model_case(FOLDER, model, seed=400)
