#!/usr/bin/env bash
# A run of models/fable-10m from pruning to the page, as docs/report.md describes it: report.sh [BUILD_DIR] [RUN_DIR] [PAGE]
# Takes minutes. Without shoehorn-workshop (libtorch) nothing is pruned, healed or chosen by sensitivity.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
shoehorn=${1:-build}/shoehorn run=${2:-build/report-run} page=${3:-}
model=models/fable-10m
rm -rf "$run"
mkdir -p "$run"

# record NAME COMMAND...: keeps what a command prints.
record() {
  local name=$1
  shift
  printf '$ shoehorn %s\n' "$*"
  "$shoehorn" "$@" -q >"$run/$name.json"
}

record inspect inspect $model --json
record convert convert $model "$run/fable-F16.gguf" --json
record imatrix imatrix -m "$run/fable-F16.gguf" -f $model/calib.txt -o "$run/imatrix.gguf" --chunks 100 --json
for type in Q8_0 Q6_K Q5_K_M Q4_K_M Q3_K_M Q2_K; do
  record "quantize-$type" quantize $model "$run/fable-$type.gguf" $type --json
done
for type in IQ4_XS Q3_K_M IQ3_XXS Q2_K; do
  record "quantize-$type-imatrix" quantize $model "$run/fable-$type-imatrix.gguf" $type --imatrix "$run/imatrix.gguf" --json
done
if [[ -x ${shoehorn%/*}/shoehorn-workshop ]]; then
  record prune prune $model -o "$run/pruned" --method obs --target mlp --layers 1-6 --ratio 0.25 --calib $model/calib.txt --samples 128 --widths search --json
  record heal heal "$run/pruned" -o "$run/healed" --data $model/calib.txt --teacher $model --rank 8 --batch 8 --lr 3e-4 --warmup 10 --max-steps 120 \
    --validate-every 20 --validation 32 --json
  record convert-pruned convert "$run/pruned" "$run/fable-pruned-F16.gguf" --json
  record convert-healed convert "$run/healed" "$run/fable-healed-F16.gguf" --json
  record quantize-healed quantize "$run/healed" "$run/fable-healed-Q4_K_M.gguf" Q4_K_M --json
  record quantize-gptq quantize $model "$run/fable-Q3_K_M-gptq.gguf" Q3_K_M --method gptq --calib $model/calib.txt --samples 128 --json
  record quantize-chosen quantize $model "$run/fable-chosen.gguf" Q3_K_M --method gptq --target-size 5097568 --rounds 2 --calib $model/calib.txt --samples 64 \
    --seq-len 256 --json
fi
for file in "$run"/*.gguf; do
  name=$(basename "$file" .gguf)
  [[ $name == imatrix ]] && continue
  base=(--kl-base "$run/fable-F16.gguf")
  [[ $name == fable-F16 ]] && base=()
  record "perplexity-$name" perplexity -m "$file" -f $model/eval.txt --chunks 60 "${base[@]}" --json
  record "bench-$name" bench -m "$file" -p 256 -n 128 -pg 256,128 -r 5 -o json
done
"$shoehorn" report "$run" ${page:+-o "$page"}
