#!/usr/bin/env bash
# How far the plan of fit is off on this machine: plan.sh [BUILD_DIR] [WORK_DIR]
# Two shapes of 1.2 billion random weights, one of them jagged, as three types each: the file's size, resident memory, and the times of
# prompts of 512 and 4096 tokens and of 64 tokens after them, predicted from probe and config.json, then measured. Nothing else may run.
# TYPES="Q4_K_M Q6_K Q3_K_M", SHAPES="plain jagged" and REPETITIONS=3 can be set.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
build=${1:-build} work=${2:-build/plan}
types=${TYPES:-Q4_K_M Q6_K Q3_K_M} shapes=${SHAPES:-plain jagged} repetitions=${REPETITIONS:-3}
mkdir -p "$work"

printf '%-7s %-7s %-12s %12s %12s %8s\n' shape type what predicted measured off
# row WHAT PREDICTED MEASURED
row() {
  awk -v s="$shape" -v t="$type" -v w="$1" -v p="$2" -v m="$3" \
    'BEGIN { printf "%-7s %-7s %-12s %12.5g %12.5g %+7.1f%%\n", s, t, w, p, m, 100 * (p / m - 1) }'
}
for shape in $shapes; do
  model=$work/$shape
  if [[ ! -e $model/config.json ]]; then
    options=(--like llama-3.2-1b -o "$model")
    if [[ $shape == jagged ]]; then options+=(--jagged full); fi
    "$build/make_checkpoint" "${options[@]}" >/dev/null 2>&1
  fi
  for type in $types; do
    file=$work/$shape-$type.gguf
    [[ -e $file ]] || "$build/shoehorn" quantize "$model" "$file" "$type" --no-check -q >/dev/null
    mapfile -t formats < <("$build/shoehorn" inspect "$file" --json | jq -r '[.tensors[] | select(.shape | length > 1) | .type] | unique[] | "--format", .')
    "$build/shoehorn" probe -o "$work/device.toml" "${formats[@]}" -q >/dev/null
    for n in 512 4096; do
      "$build/shoehorn" fit "$model" --device "$work/device.toml" -p $n -n 64 -c $((n + 64)) --plan --json |
        jq --arg type "$type" '.choices[] | select(.type == $type and .mlp_width == 1)' >"$work/plan-$n.json"
      # Decoding after n tokens is timed at that depth.
      bench() { "$build/shoehorn" bench -m "$file" -c $((n + 64)) -r "$repetitions" -o json -q "$@"; }
      bench -p $n -n 0 >"$work/prefill-$n.json"
      bench -p 0 -n 64 -d $n >"$work/decode-$n.json"
      row "prefill $n" "$(jq .ttft_s "$work/plan-$n.json")" "$(jq '.[0] | .n_prompt / .avg_ts' "$work/prefill-$n.json")"
      row "decode $n" "$(jq .tokens_per_second "$work/plan-$n.json")" "$(jq '.[0].avg_ts' "$work/decode-$n.json")"
      row "memory $n" "$(jq .ram_bytes "$work/plan-$n.json")" "$(jq '.[0].peak_rss' "$work/decode-$n.json")"
    done
    row "file" "$(jq .file_bytes "$work/plan-512.json")" "$(stat -c %s "$file")"
  done
done
