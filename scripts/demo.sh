#!/usr/bin/env bash
# Installs what is missing, builds, and takes the checkpoint in models/fable-10m all the way: inspect, convert, quantize,
# measure, tell a story. What it makes lies in build/demo/.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
(($# == 0)) || { echo "usage: demo.sh" >&2 && exit 2; }

"$root/scripts/setup.sh"
note "Building"
build release shoehorn

model=models/fable-10m
out=build/demo
cd "$root"
mkdir -p "$out"
PATH=$root/build:$PATH

# Prints a command as one would type it.
show() {
  local word line='$'
  for word; do
    [[ $word == *' '* ]] && word="\"$word\""
    line+=" $word"
  done
  printf '\n%s\n' "$line"
}

run() {
  show "$@"
  "$@"
}

note "The checkpoint"
run shoehorn inspect $model

note "To GGUF, and smaller"
run shoehorn convert $model $out/F16.gguf --type f16
for type in Q4_K_M Q2_K; do run shoehorn quantize $out/F16.gguf $out/$type.gguf $type; done

note "What each costs: perplexity on books the model has not seen"
for type in F16 Q4_K_M Q2_K; do
  measure=(shoehorn perplexity -m $out/$type.gguf -f $model/eval.txt --json)
  show "${measure[@]}"
  "${measure[@]}" >$out/$type.json
  jq -r '"perplexity \(.ppl * 100 | round / 100) +/- \(.ppl_err * 100 | round / 100), \(.tokens) tokens predicted"' $out/$type.json
done

note "A story from the 4-bit file"
prompt="Once upon a time there was a little girl who"
run shoehorn run -m $out/Q4_K_M.gguf -p "$prompt" -n 120 --temp 0.7 -s 7 -no-cnv

note "Summary"
printf '%-8s %10s %12s %12s %10s\n' file MiB bits/weight perplexity tokens/s
for type in F16 Q4_K_M Q2_K; do
  file=$out/$type.gguf
  bits=$(shoehorn inspect $file --json | jq .bits_per_weight)
  perplexity=$(jq .ppl $out/$type.json)
  speed=$(shoehorn run -m $file -p "$prompt" -n 200 --temp 0 --json | jq .tokens_per_second)
  awk -v type=$type -v bytes="$(stat -c %s $file)" -v bits="$bits" -v perplexity="$perplexity" -v speed="$speed" 'BEGIN {
    printf "%-8s %10.2f %12.2f %12.2f %10.0f\n", type, bytes / 1048576, bits, perplexity, speed }'
done
printf '\nThe files are in %s; try: build/shoehorn run -m %s/Q4_K_M.gguf -p "It was a dark night"\n' $out $out
