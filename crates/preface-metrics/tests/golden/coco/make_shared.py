"""Makes shared.json: for each file of the shared data, the SHA-256 of CoreNLP's tokens for all its texts.

The texts of a JSONL file are all its strings in order of appearance, those of other files their lines. Needs pycocoevalcap
1.2 and Java (OpenJDK 17 was used).

    python make_shared.py FOLDER_OF_SHARED_DATA
"""

import hashlib
import json
import pathlib
import subprocess
import sys
import tempfile

from pycocoevalcap.tokenizer import ptbtokenizer

HERE = pathlib.Path(__file__).parent
CORENLP = pathlib.Path(ptbtokenizer.__file__).parent / ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR


def strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from strings(item)


def texts(path):
    for line in path.read_bytes().decode().removesuffix("\n").split("\n"):
        yield from strings(json.loads(line)) if path.suffix == ".jsonl" else [line]


folder = pathlib.Path(sys.argv[1])
digests = {}
for path in sorted(folder.rglob("*")):
    if path.suffix not in {".jsonl", ".txt", ".tsv", ".csv"}:
        continue
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", newline="\n") as file:
        file.writelines(text.replace("\n", " ").replace("\r", " ") + "\n" for text in texts(path))
        file.flush()
        command = ["java", "-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8", "-cp", CORENLP,
                   "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase", file.name]
        tokens = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    digests[path.relative_to(folder).as_posix()] = hashlib.sha256(tokens).hexdigest()
(HERE / "shared.json").write_text(json.dumps(digests, indent=0) + "\n")
