"""Greedy continuations and text likelihoods of SmolLM2-135M-Instruct in f32, by transformers, from the GGUF.

usage: python tests/golden/smollm2_continuations/make.py [FILE.gguf]
       (default: fetched/smollm2.gguf, which `cargo xtask fetch smollm2` gets)

The GGUF is dequantised by transformers and run in f32 (`model_sha256` says which file). `continuations`: prompt, its ids (nothing put in front), NEW ids by greedy search that ignores end tokens, and the smallest distance between the two best logits of a step, which
must exceed MARGIN: so whoever computes the same logits within half of that writes the same ids. `texts`: sum of -log p over all ids but the first, which
has no context. `tokenised`: awkward texts and their ids. Ids are those of the tokenizer in the GGUF with the pre-tokenizer that its name "smollm" means
(every digit apart, then GPT-2's splitting): transformers 5.23 leaves the first half out, which changes ids where blanks stand ahead of a digit.
Package versions: case.json.
"""
import hashlib
import os
import sys

import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from common import HERE, VERSIONS, folder_of, write_json
from importlib.metadata import version
from tokenizers import pre_tokenizers
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer

NEW, MARGIN = 24, 5e-3
PROMPTS = [
    "The capital of France is",
    "Once upon a time, in a village by the sea,",
    "def fibonacci(n):\n    ",
    "| Ajoblanco : country : Spain | Ajoblanco : ingredient : Garlic ||",
    "name : Blue Spice | Type : coffee shop | area : city centre",
    "The three primary colours are",
    "Q: What is 12 + 30?\nA:",
    "Über den Wolken – naïve café, 東京 ☕ and",
]
TEXTS = [
    "A prefix is a short list of keys and values that every token may look at. It is trained, while the model around it stays as it was. "
    "One model can therefore serve many tasks: each brings its own few rows, and nothing else has to change.",
    "In 1969, Apollo 11 landed on the Moon. Neil Armstrong and Buzz Aldrin walked on its surface for 2 hours 31 minutes; "
    "Michael Collins stayed in orbit.\n\nThey returned with 21.5 kg of rock (47.5 lb).",
]
AWKWARD = [
    "",
    " ",
    "\n",
    "a  12   345\t6",
    "1234567890 and 3.14159, 1,000,000",
    "It's we'll they'd I'm 'tis DON'T don’t",
    "  leading and trailing  ",
    "tabs\t\tand\r\nlines\n\n\n  indented",
    "<|im_start|>user\nHi<|im_end|>\n<|endoftext|>x",
    "naïve Ünïcödé e\u0301 ﬁ № ½ x² ٣",
    "东京 とうきょう 서울 مرحبا שלום",
    "👩‍👩‍👧 🇫🇷 ☕\ufe0f",
    "\u00a0no-break\u2003em space\u200bzero",
    "snake_case camelCase --flag=value a/b\\c {}[]()",
    "\u0000\u0007 control",
]


def greedy(model, ids):
    generated, margin, cache, step = [], float("inf"), None, torch.tensor([ids])
    for _ in range(NEW):
        out = model(input_ids=step, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        best = out.logits[0, -1].topk(2)
        margin = min(margin, (best.values[0] - best.values[1]).item())
        generated.append(best.indices[0].item())
        step = best.indices[:1][None]
    return generated, margin


def sha256(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


if __name__ == "__main__":
    default = os.path.join(HERE, "../../fetched/smollm2.gguf")
    path = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else default)
    folder, name = os.path.split(path)
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32).eval()
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    encode = lambda text: tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
    continuations, texts = [], []
    with torch.no_grad():
        for prompt in PROMPTS:
            ids = encode(prompt)
            generated, margin = greedy(model, ids)
            print(repr(prompt), repr(tokenizer.decode(generated)), f"margin {margin:.4f}")
            assert margin > MARGIN, "take another prompt"
            whole = model(input_ids=torch.tensor([ids + generated])).logits[0].argmax(-1).tolist()
            assert whole[len(ids) - 1 : -1] == generated, "cached and uncached disagree"
            continuations.append({"prompt": prompt, "prompt_ids": ids, "generated": generated, "text": tokenizer.decode(generated),
                                  "smallest_margin": margin})
        for text in TEXTS:
            ids = torch.tensor([encode(text)])
            nll = F.cross_entropy(model(input_ids=ids).logits[0, :-1], ids[0, 1:], reduction="sum").item()
            texts.append({"text": text, "ids": ids[0].tolist(), "sum_nll": nll})
    versions = VERSIONS | {"gguf": version("gguf"), "tokenizers": version("tokenizers")}
    case = {"made_with": versions, "model_sha256": sha256(path), "max_new_tokens": NEW, "continuations": continuations, "texts": texts,
            "tokenised": [{"text": text, "ids": encode(text)} for text in AWKWARD]}
    write_json(os.path.join(folder_of(__file__), "case.json"), case)
