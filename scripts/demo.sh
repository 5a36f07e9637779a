#!/usr/bin/env bash
# Installs what is missing, builds, and takes the checkpoint in models/fable-10m all the way: prune, heal, quantize two ways, measure, a
# page, a story. What it makes lies in build/demo/.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
(($# == 0)) || { echo "usage: demo.sh" >&2 && exit 2; }

"$root/scripts/setup.sh"
note "Building"
build release shoehorn

out=build/demo
cd "$root"
rm -rf "$out"
PATH=$root/build:$PATH

# Prints a command as one would type it, and runs it.
run() {
  local word line='$'
  for word; do
    [[ $word == *' '* ]] && word="\"$word\""
    line+=" $word"
  done
  printf '\n%s\n' "$line"
  "$@"
}

note "The checkpoint"
run shoehorn inspect models/fable-10m

note "From the checkpoint to files that run: prune, heal, quantize two ways, measure each"
run shoehorn fit recipes/fable-10m.toml -o $out

note "A story from the 4-bit file"
story=$(echo $out/*Q4_K_M.gguf)
run shoehorn run -m "$story" -p "Once upon a time there was a little girl who" -n 120 --temp 0.7 -s 7 -no-cnv

printf '\nThe files are in %s, with report.html; try: build/shoehorn run -m %s -p "It was a dark night"\n' "$out" "$story"
