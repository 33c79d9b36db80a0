"""Makes case.json: for each JSONL file of the shared data, how many texts and tokens it has under SmolLM2's tokenizer, and the
SHA-256 of all ids (u32, little endian, texts in the order of the file, with one 0xffffffff after each text).

Versions: transformers 5.23.0, tokenizers 0.23.3, gguf 0.19.0.   Run: python make.py SMOLLM2.gguf SHARED_DATA_FOLDER

The tokenizer is the one that transformers makes of the GGUF file, with the pre-tokenizer of SmolLM2's own tokenizer.json
(every digit apart, then GPT-2's splitting). transformers ignores that name in a GGUF file and splits as GPT-2, which gives other
ids only where several blanks stand before a digit; `differing` counts the texts where it does.
A text is every string in a line, found in the order of the JSON.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, pre_tokenizers
from transformers import AutoTokenizer

gguf_file, data = Path(sys.argv[1]), Path(sys.argv[2])
plain = AutoTokenizer.from_pretrained(gguf_file.parent, gguf_file=gguf_file.name).backend_tokenizer
tokenizer = Tokenizer.from_str(plain.to_str())
tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
    [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
)


def strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from strings(item)


cases = {}
for path in sorted(data.glob("*/*.jsonl")):
    if path.parent.name == "metrics":
        continue
    texts = [text for line in path.read_text(encoding="utf-8").split("\n") if line for text in strings(json.loads(line))]
    digest, tokens, differing = hashlib.sha256(), 0, 0
    for start in range(0, len(texts), 2000):
        batch = texts[start : start + 2000]
        ours = tokenizer.encode_batch(batch, add_special_tokens=False)
        theirs = plain.encode_batch(batch, add_special_tokens=False)
        for a, b in zip(ours, theirs):
            digest.update(np.array(a.ids + [0xFFFFFFFF], dtype="<u4").tobytes())
            tokens += len(a.ids)
            differing += a.ids != b.ids
    name = f"{path.parent.name}/{path.name}"
    cases[name] = {"texts": len(texts), "tokens": tokens, "sha256": digest.hexdigest(), "differing": differing}
    print(name, cases[name])
Path(__file__).with_name("case.json").write_text(json.dumps(cases, indent=1) + "\n")
