"""An encoder-decoder of BART-base's shape with random weights, and a workload for it.

usage: make_seq2seq.py WORK

Leaves in WORK:
- bart_base/  config.json, model.safetensors (6 + 6 layers, d 768, 12 heads, feed-forward 3,072, vocabulary 50,265; no dropout)
- s1.json     workload S1: 12 batches of 8 [source ids, target ids], 400 and 30 tokens each (end tokens included), drawn at random
"""
import json
import random
import sys

import torch
from transformers import BartConfig, BartForConditionalGeneration

(work,) = sys.argv[1:]
torch.manual_seed(0)
config = BartConfig(
    vocab_size=50265, d_model=768, encoder_layers=6, decoder_layers=6, encoder_attention_heads=12, decoder_attention_heads=12,
    encoder_ffn_dim=3072, decoder_ffn_dim=3072, max_position_embeddings=1024, activation_function="gelu", scale_embedding=False, dropout=0.0,
    bos_token_id=0, pad_token_id=1, eos_token_id=2, decoder_start_token_id=2,
)
BartForConditionalGeneration(config).save_pretrained(f"{work}/bart_base")
random.seed(7)
draw = lambda n: [0] + [random.randrange(4, 50260) for _ in range(n - 2)] + [2]
batches = [[(draw(400), draw(30)) for _ in range(8)] for _ in range(12)]
with open(f"{work}/s1.json", "w") as out:
    json.dump(batches, out)
