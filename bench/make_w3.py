"""Writes workload W3: one document a step, 1,984 tokens of prompt and 64 of completion.

    usage: make_w3.py W1.json W3.json

The tokens are those of W1's pairs, one after the other, so that they are text of the same tokenizer; what they say does
not matter for speed and memory. Standard library only.
"""

import json
import sys
from itertools import chain, cycle, islice

PROMPT, COMPLETION, BATCHES = 1984, 64, 16


def main() -> None:
    source, target = sys.argv[1:]
    with open(source) as file:
        pairs = chain.from_iterable(json.load(file))
    tokens = cycle(list(chain.from_iterable(prompt + completion for prompt, completion in pairs)))
    batches = [[[list(islice(tokens, PROMPT)), list(islice(tokens, COMPLETION))]] for _ in range(BATCHES)]
    with open(target, "w") as file:
        json.dump(batches, file)


main()
