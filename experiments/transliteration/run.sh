#!/usr/bin/env bash
# The table of places in docs/results.md: another romanisation taught to the frozen transliteration model.
#   usage: run.sh MODEL OUT SEED [train options...]        MODEL: tests/golden/transliteration/model
set -euo pipefail
model=$1 out=$2 seed=$3
shift 3
here=$(dirname "$0")
python3 "$here/names.py" "$out"
for part in train valid test; do
  preface generate --model "$model" --input "$out/$part.names.jsonl" --output "$out/$part.own.jsonl" --json --max-new-tokens 30 --precision f32
  python3 "$here/convention.py" "$out/$part.own.jsonl" "$out/$part.jsonl"
done
evaluate() {
  preface eval --model "$model" --data "$out/test.jsonl" --metrics exact-match,chrf --slice-by name --max-new-tokens 30 --precision f32 --force "$@"
}
evaluate --out "$out/none"
for places in encoder decoder cross encoder,decoder encoder,cross decoder,cross encoder,decoder,cross; do
  run="$out/$places-$seed"
  preface train --model "$model" --train "$out/train.jsonl" --valid "$out/valid.jsonl" --out "$run" --force --seed "$seed" --places "$places" \
    --precision f32 --num-train-epochs 8 --per-device-train-batch-size 16 --learning-rate 3e-3 --set metric_for_best_model=exact-match --set max_new_tokens=30 --set save_steps=0 "$@"
  evaluate --adapter "$run" --out "$run-test"
done
