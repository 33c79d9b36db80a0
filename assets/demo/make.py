"""Writes train.jsonl and valid.jsonl: four words -> a tiny story that has them all.

The sentences are ours; their words are those that the embedded model knows. No combination of words stands in both
files. Python's standard library only; the same bytes every time.
"""

import json
import pathlib
import random

NAMES = {
    "Tim": "He", "Tom": "He", "Ben": "He", "Max": "He", "Sam": "He", "Jack": "He", "Bob": "He",
    "Lily": "She", "Sue": "She", "Anna": "She", "Mia": "She", "Lucy": "She", "Sara": "She", "Amy": "She",
}
ANIMALS = ["dog", "cat", "bird", "bear", "fish", "frog", "bunny", "duck", "mouse", "cow", "pig", "fox"]
PLACES = ["park", "garden", "forest", "house", "yard", "farm", "beach", "field", "lake", "town"]
THINGS = ["ball", "hat", "box", "book", "cake", "car", "toy", "flower", "apple", "boat", "kite", "leaf", "rock", "stick"]
N_TRAIN, N_VALID = 1000, 60


def article(noun):
    return "an" if noun[0] in "aeiou" else "a"


def pair(name, animal, place, thing):
    completion = (
        f"Once upon a time, there was {article(animal)} {animal} named {name}. {NAMES[name]} lived in the {place}. "
        f"One day, {name} found {article(thing)} {thing}. {NAMES[name]} was very happy. The end."
    )
    return {"prompt": f"{name}, {animal}, {place}, {thing}", "completion": completion}


def main():
    rng = random.Random(7)
    words = [(n, a, p, t) for n in NAMES for a in ANIMALS for p in PLACES for t in THINGS]
    drawn = rng.sample(words, N_TRAIN + N_VALID)
    folder = pathlib.Path(__file__).parent
    for name, part in (("train", drawn[:N_TRAIN]), ("valid", drawn[N_TRAIN:])):
        lines = [json.dumps(pair(*four)) + "\n" for four in part]
        (folder / f"{name}.jsonl").write_text("".join(lines))


main()
