"""Training throughput of full fine-tuning in PyTorch f32 on a workload, in real tokens and pairs per second, and its peak memory.

usage: full_finetune.py WORK [batches] [w1.json]

Beside `preface bench train --method fine-tune`: the same batches, AdamW, dropout off (the model is in eval mode), loss = mean over completion tokens.
"""
import json
import resource
import sys
import time

import torch
from transformers import AutoModelForCausalLM

work = sys.argv[1]
n_batches = int(sys.argv[2]) if len(sys.argv) > 2 else 12
workload = sys.argv[3] if len(sys.argv) > 3 else "w1.json"
WARM_UP = 2
torch.manual_seed(0)
torch.set_num_threads(2)
model = AutoModelForCausalLM.from_pretrained(f"{work}/smollm2", dtype=torch.float32).eval()
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, weight_decay=0.0)


def collate(batch):
    length = max(len(x) + len(y) for x, y in batch)
    pad = [length - len(x) - len(y) for x, y in batch]
    ids = [x + y + [2] * n for (x, y), n in zip(batch, pad)]
    mask = [[1] * (len(x) + len(y)) + [0] * n for (x, y), n in zip(batch, pad)]
    labels = [[-100] * len(x) + y + [-100] * n for (x, y), n in zip(batch, pad)]
    return torch.tensor(ids), torch.tensor(mask), torch.tensor(labels)


seconds, tokens, pairs = 0.0, 0, 0
for i, batch in enumerate(json.load(open(f"{work}/{workload}"))[:n_batches]):
    ids, mask, labels = collate(batch)
    start = time.perf_counter()
    loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    taken = time.perf_counter() - start
    if i >= WARM_UP:
        seconds += taken
        tokens += sum(len(x) + len(y) for x, y in batch)
        pairs += len(batch)
    print(f"batch {i}: {taken:.3f} s, loss {loss.item():.4f}", flush=True)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(f"full fine-tuning f32 {workload}: {tokens / seconds:.1f} tokens/s, {pairs / seconds:.2f} pairs/s, peak {peak:.0f} MB")
