"""What the training benchmarks share: padded batches of a workload, and the timing of steps over them in real tokens and pairs per second."""
import json
import resource
import time

import torch

WARM_UP = 2
torch.manual_seed(0)
torch.set_num_threads(2)


def collate(batch):
    """Padded ids, mask and labels of pairs (prompt ids, completion ids); loss on completions."""
    length = max(len(x) + len(y) for x, y in batch)
    pad = [length - len(x) - len(y) for x, y in batch]
    ids = [x + y + [2] * n for (x, y), n in zip(batch, pad)]
    mask = [[1] * (len(x) + len(y)) + [0] * n for (x, y), n in zip(batch, pad)]
    labels = [[-100] * len(x) + y + [-100] * n for (x, y), n in zip(batch, pad)]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask), "labels": torch.tensor(labels)}


def measure(what, path, n_batches, step):
    """Runs `step`, which takes a padded batch and returns its loss, over the first batches of a file; prints every one and the sum of all but the first two."""
    seconds, tokens, pairs = 0.0, 0, 0
    with open(path) as f:
        batches = json.load(f)[:n_batches]
    for i, batch in enumerate(batches):
        padded = collate(batch)
        start = time.perf_counter()
        loss = step(padded)
        taken = time.perf_counter() - start
        if i >= WARM_UP:
            seconds += taken
            tokens += sum(len(x) + len(y) for x, y in batch)
            pairs += len(batch)
        print(f"batch {i}: {taken:.3f} s, loss {loss.item():.4f}", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{what}: {tokens / seconds:.1f} tokens/s, {pairs / seconds:.2f} pairs/s, peak {peak:.0f} MB")
