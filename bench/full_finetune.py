"""Training throughput of full fine-tuning in PyTorch f32 on a workload, in real tokens and pairs per second, and its peak memory.

usage: full_finetune.py WORK [batches] [w1.json]

Beside `preface bench train --method fine-tune`: the same batches, AdamW, dropout off (the model is in eval mode), loss = mean over completion tokens.
"""
import sys

import torch
from transformers import AutoModelForCausalLM
from workload import measure

work = sys.argv[1]
n_batches = int(sys.argv[2]) if len(sys.argv) > 2 else 12
workload = sys.argv[3] if len(sys.argv) > 3 else "w1.json"
model = AutoModelForCausalLM.from_pretrained(f"{work}/smollm2", dtype=torch.float32).eval()
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, weight_decay=0.0)


def step(batch):
    loss = model(**batch).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return loss


measure(f"full fine-tuning f32 {workload}", f"{work}/{workload}", n_batches, step)
