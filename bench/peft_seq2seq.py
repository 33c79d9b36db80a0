"""Training throughput of PEFT prefix tuning on an encoder-decoder (decoder rows, all that it has), and its peak memory.

usage: peft_seq2seq.py WORK f32|bf16 [batches] [dropout]      after make_seq2seq.py WORK

`dropout`: with the 0.1 on the frozen model that BART's configs have and `model.train()` switches on; without it nothing is dropped, as in ours.
"""
import json
import resource
import sys
import time

import torch
from peft import PrefixTuningConfig, get_peft_model
from transformers import AutoModelForSeq2SeqLM

work, precision = sys.argv[1:3]
n_batches = int(sys.argv[3]) if len(sys.argv) > 3 else 12
WARM_UP = 2
torch.manual_seed(0)
torch.set_num_threads(2)
base = AutoModelForSeq2SeqLM.from_pretrained(f"{work}/bart_base", dtype={"f32": torch.float32, "bf16": torch.bfloat16}[precision], dropout=0.1 if "dropout" in sys.argv else 0.0)
config = PrefixTuningConfig(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=10, prefix_projection=True, encoder_hidden_size=512)
model = get_peft_model(base, config)
model.train()
for parameter in model.prompt_encoder.parameters():
    parameter.data = parameter.data.float()
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=5e-5)

seconds, tokens, pairs = 0.0, 0, 0
for i, batch in enumerate(json.load(open(f"{work}/s1.json"))[:n_batches]):
    # All of one length: nothing is padded.
    source, labels = (torch.tensor(side) for side in zip(*batch))
    mask = torch.ones_like(source)
    start = time.perf_counter()
    loss = model(input_ids=source, attention_mask=mask, labels=labels).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    taken = time.perf_counter() - start
    if i >= WARM_UP:
        seconds += taken
        tokens += source.numel() + labels.numel()
        pairs += len(batch)
    print(f"batch {i}: {taken:.3f} s, loss {loss.item():.4f}", flush=True)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(f"peft {precision} s1.json: {tokens / seconds:.1f} tokens/s, {pairs / seconds:.2f} pairs/s, peak {peak:.0f} MB")
