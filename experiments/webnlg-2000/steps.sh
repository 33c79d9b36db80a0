#!/usr/bin/env bash
# Scores a run of run.sh at every checkpoint on the test inputs: from which step on is it good?
#   usage: steps.sh MODEL WEBNLG_FOLDER TEST300.jsonl OUT SEED [train options...]
set -euo pipefail
here=$(dirname "$0") model=$1 data=$2 test=$3 out=$4 seed=$5
shift 5
EVAL_OPTIONS="--weights auto" "$here/run.sh" "$model" "$data" "$test" "$out" steps "$seed" \
  --set save_steps=50 --set save_total_limit=0 "$@"
for checkpoint in "$out/steps-$seed"/checkpoint-*; do
  step=${checkpoint##*-}
  preface export "$checkpoint" --out "$out/step-$step" --force
  preface eval --model "$model" --adapter "$out/step-$step" --data "$test" --metrics bleu,perplexity --lowercase \
    --weights auto --batch-size 16 --out "$out/step-$step-test" --force
done
