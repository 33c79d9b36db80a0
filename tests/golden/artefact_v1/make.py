"""What PEFT computes behind a folder that preface wrote. Run: python tests/golden/artefact_v1/make.py

adapter/ was written once, by `cargo test -p preface-tune --test peft write_the_fixture -- --ignored`, on ../tiny_llama/model, in format version 1 of
preface.json. It is not made again: it stands for all artefacts of that version that people have. case.*: logits of each of `prompts`, computed by PEFT
(versions: case.json) after `PeftModel.from_pretrained`.
"""
import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
PROMPTS = [[17, 4, 90, 33, 8, 8, 61], [5], [44, 12, 70]]

if __name__ == "__main__":
    script = os.path.join(HERE, "../peft_artefact/check_ours.py")
    model, adapter, case = (os.path.join(HERE, path) for path in ("../tiny_llama/model", "adapter", "case"))
    sys.exit(subprocess.call([sys.executable, script, model, adapter, case, "--write", "--prompts", json.dumps(PROMPTS)]))
