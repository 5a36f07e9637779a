#!/usr/bin/env bash
# Prefill and decode rates of a random model of a real shape: speed.sh [BUILD_DIR] [SHAPE] [TYPE] [REPEATS]
# Prints one line per repetition and the medians. Needs 4 GB of disk for llama-3.2-1b.
set -euo pipefail
build=${1:-build} shape=${2:-llama-3.2-1b} type=${3:-Q4_K_M} repeats=${4:-5}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$build/make_checkpoint" --like "$shape" -o "$work/hf" --seed 1 >&2
"$build/shoehorn" quantize "$work/hf" "$work/model.gguf" "$type"
rm -rf "$work/hf"
# The generated tokenizer makes about one token of two bytes; the rate is over whatever number that is.
head -c 1150 "$(dirname "$0")/../models/fable-10m/eval.txt" >"$work/prompt.txt"
for ((i = 0; i < repeats; i++)); do
  prefill=$("$build/shoehorn" run -m "$work/model.gguf" -no-cnv -f "$work/prompt.txt" -n 1 --temp 0 --json -q |
    jq -r '"\(.prompt_ids | length) \(.prompt_tokens_per_second)"')
  decode=$("$build/shoehorn" run -m "$work/model.gguf" -no-cnv -p Hello -n 33 --temp 0 --json -q | jq .tokens_per_second)
  echo "$prefill $decode"
done | tee "$work/rates" | awk '{ printf "prefill of %d tokens %.1f tok/s, decode %.2f tok/s\n", $1, $2, $3 }'
median() { cut -d' ' -f"$1" "$work/rates" | sort -g | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
awk -v p="$(median 2)" -v d="$(median 3)" 'BEGIN { printf "median: prefill %.1f tok/s, decode %.2f tok/s\n", p, d }'
