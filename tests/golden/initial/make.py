"""How `transformers` starts the weights of each family. Run: python tests/golden/initial/make.py

<family>.json is a config; case.json tells of every tensor that `Model(config)` would save: shape, and of what it starts with the mean, the standard
deviation, and the rows that are zero (where others are not). Package versions: case.json.
"""
import os
import sys

import torch
from transformers import (
    BartConfig, BartForConditionalGeneration, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, MarianConfig, MarianMTModel, PegasusConfig,
    PegasusForConditionalGeneration, T5Config, T5ForConditionalGeneration,
)

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from common import VERSIONS, edit_config, folder_of, write_json

FOLDER = folder_of(__file__)


def side(**kw):
    return dict(
        vocab_size=300, d_model=48, encoder_layers=2, decoder_layers=3, encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=96,
        decoder_ffn_dim=64, max_position_embeddings=70, pad_token_id=1, bos_token_id=0, eos_token_id=2, decoder_start_token_id=2, forced_eos_token_id=2, **kw,
    )


def t5(**kw):
    return T5Config(vocab_size=300, d_model=48, d_kv=10, d_ff=96, num_layers=2, num_decoder_layers=3, num_heads=4, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0, **kw)


MODELS = {
    "llama": (LlamaForCausalLM, LlamaConfig(vocab_size=300, hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, pad_token_id=5, attention_bias=True, initializer_range=0.05)),
    "llama_tied": (LlamaForCausalLM, LlamaConfig(vocab_size=300, hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4, tie_word_embeddings=True)),
    "gpt2": (GPT2LMHeadModel, GPT2Config(vocab_size=300, n_positions=70, n_embd=48, n_layer=3, n_head=4)),
    "bart": (BartForConditionalGeneration, BartConfig(**side(init_std=0.03))),
    "pegasus": (PegasusForConditionalGeneration, PegasusConfig(**side())),
    "marian": (MarianMTModel, MarianConfig(**side())),
    "t5": (T5ForConditionalGeneration, t5(feed_forward_proj="relu", initializer_factor=0.5)),
    "t5_v1_1": (T5ForConditionalGeneration, t5(feed_forward_proj="gated-gelu", tie_word_embeddings=False)),
}

if __name__ == "__main__":
    case = {"made_with": VERSIONS, "models": {}}
    for name, (kind, config) in MODELS.items():
        torch.manual_seed(0)
        folder = os.path.join(FOLDER, name)
        model = kind(config)
        config.save_pretrained(folder)
        edit_config(folder, lambda config: config.pop("transformers_version", None))
        # As saved: a tied head is no tensor of its own.
        saved, seen = {}, set()
        for tensor_name, parameter in model.named_parameters():
            if not parameter.requires_grad or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            values = parameter.detach().double()
            rows = values if values.dim() == 2 else values[None]
            zero = [i for i, row in enumerate(rows) if not row.any()] if values.any() else []
            saved[tensor_name] = {"shape": list(values.shape), "mean": values.mean().item(), "std": values.std(correction=0).item(), "zero_rows": zero}
        case["models"][name] = saved
    write_json(os.path.join(FOLDER, "case.json"), case)
