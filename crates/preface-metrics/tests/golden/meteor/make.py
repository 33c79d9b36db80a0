"""Makes scores.json in this folder: METEOR 1.5 by its own program, for each segment and for the sets.

Needs pycocoevalcap 1.2 (`pip install --no-deps pycocoevalcap==1.2`), which ships meteor-1.5.jar, and Java (OpenJDK 17 was
used). The texts lie in ../official, with their notice.

    python make.py
"""

import json
import pathlib
import subprocess

from pycocoevalcap.meteor import meteor

HERE = pathlib.Path(__file__).parent
JAR = pathlib.Path(meteor.__file__).parent / meteor.METEOR_JAR
OPTIONS = {"as-is": [], "normalized": ["-norm"]}


def run(records, options):
    """Counts of each segment, then the scores of the segments and of their sum, over the program's text protocol."""
    command = ["java", "-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8", "-Xmx2G", "-jar", JAR, "-", "-", "-stdio", "-l", "en"]
    with subprocess.Popen(command + options, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8") as program:
        def ask(line):
            program.stdin.write(line.replace("\n", " ").replace("\r", " ") + "\n")
            program.stdin.flush()

        counts = []
        for record in records:
            ask(" ||| ".join(["SCORE", *record["references"], record["hypothesis"]]))
            counts.append(program.stdout.readline().strip())
        ask(" ||| ".join(["EVAL", *counts]))
        sentences = [float(program.stdout.readline()) for _ in records]
        return {"score": float(program.stdout.readline()), "sentences": sentences}


scores = {}
for name in ["e2e", "dart", "degenerate", "random"]:
    records = [json.loads(line) for line in (HERE.parent / "official" / f"{name}.jsonl").open(encoding="utf-8")]
    scores[name] = {variant: run(records, options) for variant, options in OPTIONS.items()}
(HERE / "scores.json").write_text(json.dumps(scores, indent=0) + "\n")
