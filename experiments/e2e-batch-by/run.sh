#!/usr/bin/env bash
# Trains on the same pairs of E2E, each once, drawn singly or by whole inputs: the table in docs/results.md.
#   usage: run.sh MODEL E2E_FOLDER OUT pair|prompt SEED [train options...]
# PAIRS (1000) is the size of the training set, TEST (800) that of the test set, both in references.
set -euo pipefail
model=$1 data=$2 out=$3 batch_by=$4 seed=$5
shift 5
here=$(dirname "$0")
mkdir -p "$out"
for part in "train ${PAIRS:-1000}" "test ${TEST:-800}" "dev 200"; do
  read -r name pairs <<< "$part"
  [ -e "$out/$name.jsonl" ] || python3 "$here/sample.py" "$data/$name.jsonl" "$pairs" > "$out/$name.jsonl"
done
run="$out/$batch_by-$seed"
preface train --model "$model" --train "$out/train.jsonl" --valid "$out/dev.jsonl" --out "$run" --force \
  --seed "$seed" --set batch_by="$batch_by" "$@"
preface eval --model "$model" --adapter "$run" --data "$out/test.jsonl" --metrics bleu,rouge --out "$run-test" \
  --force --batch-size 16 ${EVAL_OPTIONS:-}
