"""A Llama with its own head, llama3 rotary scaling and sharded weights. Run: python tests/golden/tiny_llama_untied/make.py

The rotary wave lengths are 6, 26, 107, 444, 1837 and 7595 tokens; with `original_max_position_embeddings` 64 and factors 1 and 4 they
fall into all three regions of the llama3 rule (kept, blended, divided). The same config in the older form (`rope_theta` + `rope_scaling`) is
written as config_older_form.json and must give the same model. Package versions: case.json.
"""
import json
import os
import sys

import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from common import folder_of, logits_of, randomise, write_language_model_case
from transformers import LlamaConfig, LlamaForCausalLM

FOLDER = folder_of(__file__)
SCALING = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def build():
    config = LlamaConfig(
        vocab_size=83,
        hidden_size=36,
        intermediate_size=52,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=12,
        max_position_embeddings=256,
        rms_norm_eps=1e-6,
        tie_word_embeddings=False,
        attention_bias=False,
        rope_parameters={"rope_theta": 5000.0, **SCALING},
        bos_token_id=1,
        eos_token_id=[2, 5],
        pad_token_id=0,
    )
    return randomise(LlamaForCausalLM(config), seed=20)


if __name__ == "__main__":
    folder = os.path.join(FOLDER, "model")
    build().save_pretrained(folder, max_shard_size="60KB")
    assert os.path.exists(os.path.join(folder, "model.safetensors.index.json"))
    model = LlamaForCausalLM.from_pretrained(folder).eval()
    inv_freq, plain = model.model.rotary_emb.inv_freq, 5000.0 ** (-torch.arange(0, 12, 2) / 12)
    ratio = (inv_freq / plain).tolist()
    assert any(r > 0.999 for r in ratio) and any(0.126 < r < 0.999 for r in ratio) and any(r < 0.126 for r in ratio), ratio

    with open(os.path.join(folder, "config.json")) as f:
        config = json.load(f)
    rope = config.pop("rope_parameters")
    config["torch_dtype"] = config.pop("dtype")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = rope
    with open(os.path.join(FOLDER, "config_older_form.json"), "w") as out:
        json.dump(config, out, indent=2)
        out.write("\n")
    older = LlamaForCausalLM(LlamaConfig(**config)).eval()
    older.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(logits_of(older, [3, 4, 5, 6]), logits_of(model, [3, 4, 5, 6]))
    write_language_model_case(FOLDER, model, seed=200)
