"""Trains PEFT's prefix tuning on the budget of docs/results.md, so that both tools are scored on the same inputs.

One epoch over 2,000 WebNLG pairs in batches of 8 (250 steps): 10 rows, MLP of width 512, bf16 model with f32 trained
parameters, AdamW without decay at 1e-3, warm-up of 20 steps, linear decay, clip at 1, mean over completion tokens.
The text is ours: `| subj : prop : obj | ...`, then a blank and the completion, then the end token.

usage: train_peft.py SMOLLM2_FOLDER WEBNLG_TRAIN.jsonl OUT [SEED]     (torch, transformers 5, peft 0.21)
Score with: preface eval --model MODEL --adapter OUT --data TEST300.jsonl --metrics bleu --lowercase --separator blank
"""
import json
import random
import sys
import time

import torch
from peft import PrefixTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, get_linear_schedule_with_warmup

folder, train, out = sys.argv[1:4]
seed = int(sys.argv[4]) if len(sys.argv) > 4 else 0
BATCH, N_PAIR = 8, 2000

tokenizer = AutoTokenizer.from_pretrained(folder)
END = 2
pairs = []
for line in open(train):
    row = json.loads(line)
    prompt = "| " + " | ".join(" : ".join(triple) for triple in row["triples"])
    pairs += [(prompt, reference) for reference in row["references"]]
random.Random(seed).shuffle(pairs)
pairs = pairs[:N_PAIR]

torch.manual_seed(seed)
base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
config = PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=10, prefix_projection=True, encoder_hidden_size=512)
model = get_peft_model(base, config)
model.train()
for parameter in model.prompt_encoder.parameters():
    parameter.data = parameter.data.float()
trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
optimizer = torch.optim.AdamW(trained, lr=1e-3, weight_decay=0.0)
steps = N_PAIR // BATCH
schedule = get_linear_schedule_with_warmup(optimizer, 20, steps)

start = time.time()
for step in range(steps):
    batch = [
        (tokenizer.encode(prompt), tokenizer.encode(" " + completion) + [END])
        for prompt, completion in pairs[BATCH * step : BATCH * (step + 1)]
    ]
    length = max(len(x) + len(y) for x, y in batch)
    pad = [length - len(x) - len(y) for x, y in batch]
    ids = torch.tensor([x + y + [END] * n for (x, y), n in zip(batch, pad)])
    mask = torch.tensor([[1] * (len(x) + len(y)) + [0] * n for (x, y), n in zip(batch, pad)])
    labels = torch.tensor([[-100] * len(x) + y + [-100] * n for (x, y), n in zip(batch, pad)])
    loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(trained, 1.0)
    optimizer.step()
    schedule.step()
    optimizer.zero_grad()
    if (step + 1) % 10 == 0:
        print(f"step {step + 1}: loss {loss.item():.4f}, {time.time() - start:.0f} s", flush=True)
model.save_pretrained(out)
