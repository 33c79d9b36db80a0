"""Draws whole inputs, each with all its references: as many as have about PAIRS references together.

usage: sample.py E2E.jsonl PAIRS > sample.jsonl
"""
import json
import random
import sys

rows = open(sys.argv[1]).readlines()
random.Random(2017).shuffle(rows)
pairs = 0
for row in rows:
    if pairs >= int(sys.argv[2]):
        break
    pairs += len(json.loads(row)["references"])
    sys.stdout.write(row)
