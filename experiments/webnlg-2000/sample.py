"""Draws the fixed test inputs: 150 of the ten categories that stand in WebNLG's training part, 150 of the five that do not.

usage: sample.py WEBNLG_TEST.jsonl > test300.jsonl      (nothing of WebNLG itself is committed: CC BY-NC-SA)
"""
import json
import random
import sys

UNSEEN = {"Artist", "Athlete", "CelestialBody", "MeanOfTransportation", "Politician"}
rows = [line for line in open(sys.argv[1])]
generator = random.Random(2017)
for unseen in (False, True):
    group = [row for row in rows if (json.loads(row)["category"] in UNSEEN) == unseen]
    sys.stdout.writelines(generator.sample(group, 150))
