#!/usr/bin/env bash
# Time and peak memory of converting and quantizing a large checkpoint: scale.sh [BUILD_DIR] [SHAPE] [WORK_DIR]
# The 8 B shape needs 40 GB of disk under WORK_DIR. Each step prints its own peak (ru_maxrss, mapped pages included).
set -euo pipefail
build=${1:-build} shape=${2:-llama-3.1-8b}
work=$(mktemp -d -p "${3:-/tmp}")
trap 'rm -rf "$work"' EXIT
"$build/make_checkpoint" --like "$shape" -o "$work/hf" --seed 1
for type in Q4_K_M Q3_K_M; do "$build/shoehorn" quantize "$work/hf" "$work/model.gguf" "$type"; done
"$build/shoehorn" convert "$work/hf" "$work/model-F16.gguf" --type f16
