#!/usr/bin/env bash
# Trains and scores one row of the table in docs/results.md.
#   usage: run.sh MODEL WEBNLG_FOLDER TEST300.jsonl OUT NAME SEED [train options...]
set -euo pipefail
model=$1 data=$2 test=$3 out=$4 name=$5 seed=$6
shift 6
EVAL_OPTIONS=${EVAL_OPTIONS:-}
run="$out/$name-$seed"
preface train --model "$model" --train "$data/train.jsonl" --valid "$data/dev.jsonl" --out "$run" --force \
  --seed "$seed" --set max_train_samples=2000 --set max_eval_samples=100 --set eval_steps=50 "$@"
preface eval --model "$model" --adapter "$run" --data "$test" --metrics bleu --lowercase --out "$run-test" --force --batch-size 16 $EVAL_OPTIONS
