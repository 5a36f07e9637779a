#!/usr/bin/env bash
# Perplexity of our files beside llama.cpp's of the same type, one text and protocol: quality.sh [BUILD_DIR] [SHARED_DIR]
# SHARED_DIR holds reference/*.gguf with figures.json, and data/text/books.test.txt.
set -euo pipefail
build=${1:-build} shared=${2:-../shared}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
ppl() { "$build/shoehorn" perplexity -m "$1" -f "$shared/data/text/books.test.txt" --chunks 60 --json -q | jq .ppl; }
printf '%-8s %10s %10s %8s %14s\n' type ours llama.cpp ratio "its own figure"
for type in F16 Q8_0 Q6_K Q5_K_M Q4_K_M Q4_0 Q3_K_M Q2_K TQ2_0; do
  "$build/shoehorn" quantize models/fable-10m "$work/model.gguf" "$type" -q >/dev/null
  awk -v type="$type" -v ours="$(ppl "$work/model.gguf")" -v theirs="$(ppl "$shared/reference/fable-10m-$type.gguf")" \
    -v figure="$(jq ".files[\"$type\"].ppl" "$shared/reference/figures.json")" \
    'BEGIN { printf "%-8s %10.4f %10.4f %8.4f %14.4f\n", type, ours, theirs, ours / theirs, figure }'
done
