"""A Llama with grouped KV heads, a head_dim that is not hidden / heads, and a tied head. Run: python tests/golden/tiny_llama/make.py

No two dimensions are equal and none is a product of others in use, so a mix-up cannot pass by luck. Config in the form of transformers 5
(`rope_parameters`, `dtype`). case.*: see tests/golden/README.md. Package versions: case.json.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from common import folder_of, randomise, write_language_model_case
from transformers import LlamaConfig, LlamaForCausalLM

FOLDER = folder_of(__file__)


def build():
    config = LlamaConfig(
        vocab_size=97,
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=10,
        max_position_embeddings=128,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    return randomise(LlamaForCausalLM(config), seed=10)


if __name__ == "__main__":
    model = build()
    model.save_pretrained(os.path.join(FOLDER, "model"))
    write_language_model_case(FOLDER, LlamaForCausalLM.from_pretrained(os.path.join(FOLDER, "model")).eval(), seed=100)
