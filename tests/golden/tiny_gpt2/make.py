"""A GPT-2: fused qkv stored as [in, out], learned positions, biases that are not zero, gelu_new, tied head.
Run: python tests/golden/tiny_gpt2/make.py       (package versions: case.json)
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from common import folder_of, randomise, write_language_model_case
from transformers import GPT2Config, GPT2LMHeadModel

FOLDER = folder_of(__file__)


def build():
    config = GPT2Config(
        vocab_size=89,
        n_positions=64,
        n_embd=40,
        n_layer=3,
        n_head=5,
        n_inner=None,  # 4 * n_embd, as published files leave it
        activation_function="gelu_new",
        layer_norm_epsilon=1e-5,
        bos_token_id=88,
        eos_token_id=88,
    )
    return randomise(GPT2LMHeadModel(config), seed=30)


if __name__ == "__main__":
    model = build()
    model.save_pretrained(os.path.join(FOLDER, "model"))
    write_language_model_case(FOLDER, GPT2LMHeadModel.from_pretrained(os.path.join(FOLDER, "model")).eval(), seed=300)
