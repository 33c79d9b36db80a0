"""Times the official tools and preface-metrics on the same 50,000 segments, in the same run.

Usage: speed.py SHARED_DATA SPEED_BINARY [N_SEGMENT]
  SHARED_DATA   folder with e2e, dart and webnlg as JSONL
  SPEED_BINARY  cargo build --release -p preface-metrics --example speed

A segment is one reference text as hypothesis and another one of the same input as its reference; where the sets are used
up, they start again with the next distance between the two. Needs sacrebleu 2.6.0 and rouge-score 0.1.2. Single process,
as the tools run.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rouge_score import rouge_scorer
from sacrebleu.metrics import BLEU, CHRF, TER

data, binary = Path(sys.argv[1]), sys.argv[2]
n_segment = int(sys.argv[3]) if len(sys.argv) > 3 else 50_000

inputs = []
for name in ["e2e/train", "dart/test", "webnlg/train"]:
    for line in open(data / f"{name}.jsonl", encoding="utf-8"):
        references = json.loads(line)["references"]
        if len(references) > 1:
            inputs.append(references)
segments = []
distance = 1
while len(segments) < n_segment:
    for references in inputs:
        if distance < len(references):
            for i, text in enumerate(references):
                segments.append((text, references[(i + distance) % len(references)]))
    distance += 1
segments = segments[:n_segment]
hypotheses, references = [s[0] for s in segments], [s[1] for s in segments]


def rouge():
    tool = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    scores = [tool.score(r, h) for h, r in segments]
    return [sum(s[name].fmeasure for s in scores) / len(scores) for name in ["rouge1", "rouge2", "rougeL"]]


official = {
    "bleu": lambda: [BLEU().corpus_score(hypotheses, [references]).score],
    "chrf": lambda: [CHRF().corpus_score(hypotheses, [references]).score],
    "chrf++": lambda: [CHRF(word_order=2).corpus_score(hypotheses, [references]).score],
    "rouge": rouge,
    "ter": lambda: [TER().corpus_score(hypotheses, [references]).score],
}
with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
    for hypothesis, reference in segments:
        file.write(json.dumps({"hypothesis": hypothesis, "references": [reference]}) + "\n")
    file.flush()
    print("| metric | official, s | preface, s | faster by | greatest difference of scores |\n|---|---|---|---|---|")
    for name, score in official.items():
        start = time.perf_counter()
        want = score()
        theirs = time.perf_counter() - start
        out = json.loads(subprocess.run([binary, file.name, name], capture_output=True, check=True).stdout)
        difference = max(abs(a - b) for a, b in zip(out["scores"], want, strict=True))
        print(f"| {name} | {theirs:.1f} | {out['seconds']:.2f} | {theirs / out['seconds']:.0f} | {difference:.0e} |",
              flush=True)
