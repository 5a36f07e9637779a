#!/usr/bin/env bash
# How far the plan of fit is off on this machine: plan.sh [BUILD_DIR] [WORK_DIR]
# Two shapes of 1.2 billion random weights, one of them jagged, as three types each: the file's size, resident memory, and the times of
# prompts of 512 and 4096 tokens and of 64 tokens after them, predicted from probe and config.json, then measured. Nothing else may run.
# The memory's rate drifts on machines that are shared, so probe and bench take turns; a row has the medians of ROUNDS=3 turns, and
# the median of how far each turn's prediction was off. TYPES="Q4_K_M Q6_K Q3_K_M" and SHAPES="plain jagged" can be set, too.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
build=${1:-build} work=${2:-build/plan}
types=${TYPES:-Q4_K_M Q6_K Q3_K_M} shapes=${SHAPES:-plain jagged} rounds=${ROUNDS:-3}
mkdir -p "$work"

# value WHAT PREDICTED MEASURED: of one turn
value() { printf '%s\t%s\t%s\n' "$@" >>"$work/turns.tsv"; }
# one_row_each: the medians over the turns
one_row_each() {
  awk -F '\t' -v shape="$shape" -v type="$type" '
    function median(values, n,   i, j, t) {
      for (i = 2; i <= n; i++) for (j = i; j > 1 && values[j] < values[j - 1]; j--) { t = values[j]; values[j] = values[j - 1]; values[j - 1] = t }
      return n % 2 ? values[(n + 1) / 2] : (values[n / 2] + values[n / 2 + 1]) / 2
    }
    !($1 in count) { order[++rows] = $1 }
    { n = ++count[$1]; predicted[$1, n] = $2; measured[$1, n] = $3 }
    END {
      for (r = 1; r <= rows; r++) {
        what = order[r]; n = count[what]
        for (i = 1; i <= n; i++) { p[i] = predicted[what, i]; m[i] = measured[what, i]; off[i] = 100 * (p[i] / m[i] - 1) }
        printf "%-7s %-7s %-12s %12.5g %12.5g %+7.1f%%\n", shape, type, what, median(p, n), median(m, n), median(off, n)
      }
    }' "$work/turns.tsv"
}

printf '%-7s %-7s %-12s %12s %12s %8s\n' shape type what predicted measured off
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
    : >"$work/turns.tsv"
    for ((round = 0; round < rounds; round++)); do
      for n in 512 4096; do
        "$build/shoehorn" probe -o "$work/device.toml" "${formats[@]}" -q >/dev/null
        plan=$("$build/shoehorn" fit "$model" --device "$work/device.toml" -p $n -n 64 -c $((n + 64)) --plan --json |
          jq -c --arg type "$type" '.choices[] | select(.type == $type and .mlp_width == 1)')
        planned() { jq ".$1" <<<"$plan"; }
        # Decoding after n tokens is timed at that depth.
        bench() { "$build/shoehorn" bench -m "$file" -c $((n + 64)) -r 1 -o json -q "$@"; }
        decode=$(bench -p 0 -n 64 -d $n)
        value "decode $n" "$(planned tokens_per_second)" "$(jq '.[0].avg_ts' <<<"$decode")"
        value "memory $n" "$(planned ram_bytes)" "$(jq '.[0].peak_rss' <<<"$decode")"
        value "prefill $n" "$(planned ttft_s)" "$(bench -p $n -n 0 | jq '.[0] | .n_prompt / .avg_ts')"
      done
      value file "$(planned file_bytes)" "$(stat -c %s "$file")"
    done
    one_row_each
  done
done
