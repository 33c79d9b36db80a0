"""Another romanisation: the model's own answers, rewritten by rule as German newspapers would.

    python convention.py ANSWERS.jsonl OUT.jsonl        ANSWERS: what `preface generate --json` says without an adapter

`name` says whether the convention writes the name otherwise than the model does.

    sh -> sch    kh -> ch    gh -> g    th -> t    dh -> d    y -> j    j -> dsch    w -> u    z -> s    q -> k    ee -> ie    a final h goes
"""
import json
import re
import sys

RULES = {"sh": "sch", "kh": "ch", "gh": "g", "th": "t", "dh": "d", "y": "j", "j": "dsch", "w": "u", "z": "s", "q": "k", "ee": "ie"}
PATTERN = re.compile("|".join(sorted(RULES, key=len, reverse=True)))


def german(name):
    name = PATTERN.sub(lambda found: RULES[found[0]], name)
    return name[:-1] if name.endswith("h") and len(name) > 1 and not name.endswith("ch") else name


def main():
    n = n_changed = 0
    with open(sys.argv[1]) as answers, open(sys.argv[2], "w") as out:
        for line in answers:
            answer = json.loads(line)
            own = answer["completion"].strip()
            if not own:
                continue
            name, is_other = german(own), german(own) != own
            n, n_changed = n + 1, n_changed + is_other
            line = {"prompt": answer["prompt"], "completion": name, "name": "other" if is_other else "same"}
            out.write(json.dumps(line, ensure_ascii=False) + "\n")
    print(f"{n} names, the convention changes {n_changed}")


main()
