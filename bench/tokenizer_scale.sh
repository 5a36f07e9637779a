#!/usr/bin/env bash
# How the CPU time of tokenization grows with the length of a line without spaces: 1 MB against 10 MB. It must stay
# near-linear.
# usage: bench/tokenizer_scale.sh SHOEHORN MODEL...      (MODEL: a checkpoint directory or a GGUF)
set -eu
if [ $# -lt 2 ]; then
  sed -n '2,4p' "$0" >&2
  exit 2
fi
shoehorn=$1
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

seconds() { # COMMAND...: user and system time, the best of three
  local TIMEFORMAT='%U %S'
  for _ in 1 2 3; do
    { time "$@" > /dev/null; } 2>&1
  done | awk '{ t = $1 + $2; if (NR == 1 || t < best) best = t } END { printf "%.3f", best }'
}

# One repeated letter, random letters, and words run together.
awk 'BEGIN { while (n++ < 10000000) printf "a" }' > "$work/letter"
awk 'BEGIN { srand(1); while (n++ < 10000000) printf "%c", 97 + int(26 * rand()) }' > "$work/random"
awk 'BEGIN { srand(1); split("the ing state form un con tion er house ly", w, " ");
             while (n < 10000000) { s = w[1 + int(10 * rand())]; n += length(s); printf "%s", s } }' > "$work/words"

: > "$work/empty"
echo "| model | line | load s | 1 MB s | 10 MB s | ratio without load |"
echo "|---|---|---|---|---|---|"
for model in "$@"; do
  load=$(seconds "$shoehorn" tokenize -m "$model" -f "$work/empty" --json)
  for kind in letter random words; do
    head -c 1000000 "$work/$kind" > "$work/1"
    head -c 10000000 "$work/$kind" > "$work/10"
    one=$(seconds "$shoehorn" tokenize -m "$model" -f "$work/1" --json)
    ten=$(seconds "$shoehorn" tokenize -m "$model" -f "$work/10" --json)
    echo "$model $kind $load $one $ten" |
      awk '{ printf "| %s | %s | %s | %s | %s | %.1f |\n", $1, $2, $3, $4, $5, ($5 - $3) / ($4 - $3) }'
  done
done
