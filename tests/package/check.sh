#!/usr/bin/env bash
# What a package of scripts/package.sh must be: check.sh ARCHITECTURE PACKAGE. Prints a TAP line per check.
# Packages for arm64 run under qemu on other machines; build/shoehorn is what their programs are compared with.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
architecture=$1 package=$2
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
runner=()
[[ $architecture == "$(dpkg --print-architecture)" ]] || runner=(qemu-aarch64)
program() { "${runner[@]}" "$tree/usr/bin/shoehorn" "$@"; }

number=0
# check WHAT COMMAND...
check() {
  local what=$1 said
  shift
  number=$((number + 1))
  if said=$("$@" 2>&1); then
    echo "ok $number - $architecture: $what"
  else
    echo "not ok $number - $architecture: $what"
    sed 's/^/# /' <<<"$said"
  fi
}

field_is() { [[ $(dpkg-deb -f "$package" "$1") == "$2" ]]; }
depends_on() { dpkg-deb -f "$package" Depends | grep -q "$1"; }
unpacks() { dpkg-deb -x "$package" "$tree" && dpkg-deb -e "$package" "$tree/DEBIAN"; }
sums_agree() { (cd "$tree" && md5sum --quiet -c DEBIAN/md5sums); }
is_portable() {
  local needed
  needed=$(readelf -d "$tree/usr/bin/shoehorn" | grep NEEDED) && ! grep -E 'libstdc|libgcc|fmt|edit|utf8proc|sodium|torch' <<<"$needed"
}
starts() { [[ $(program --version) == "$(build/shoehorn --version)" ]]; }
quantizes() {
  program quantize models/fable-10m "$tree/here.gguf" Q3_K_M --no-check -q &&
    build/shoehorn quantize models/fable-10m "$tree/there.gguf" Q3_K_M --no-check -q && cmp "$tree/here.gguf" "$tree/there.gguf"
}
tells() { [[ -n $(program run -m "$tree/here.gguf" -p 'Once upon a time' -n 8 --temp 0 -no-cnv --no-display-prompt -q) ]]; }
lacks_the_workshop() { program prune models/fable-10m -o "$tree/pruned" 2>&1 | grep -q 'libtorch'; }
has_manual() {
  zcat "$tree/usr/share/man/man1/shoehorn.1.gz" >"$tree/page" && grep -q '^\.SS shoehorn quantize' "$tree/page" &&
    grep -q 'imatrix' "$tree/page" && ! grep -q '^\.SS shoehorn prune' "$tree/page" &&
    { ! command -v groff >/dev/null || [[ -z $(groff -man -Tutf8 -ww "$tree/page" 2>&1 >/dev/null) ]]; }
}
# completes WORD... : what the last word, which is being typed, can become.
completes() {
  COMP_WORDS=("$tree/complete" "$@")
  COMP_CWORD=$#
  # shellcheck disable=SC1091
  source "$tree/usr/share/bash-completion/completions/shoehorn"
  _shoehorn
  echo " ${COMPREPLY[*]} "
}
has_completion() {
  printf '#!/bin/sh\nexec %s "$@"\n' "${runner[*]} $tree/usr/bin/shoehorn" >"$tree/complete" && chmod +x "$tree/complete" &&
    [[ $(completes qu) == ' quantize ' && $(completes quantize --imat) == ' --imatrix ' && $(completes quantize models/fable-10m/ev) == *eval.txt* &&
      $(completes eval --task hell) == " hellaswag " ]]
}
unit_is_valid() {
  local unit=$tree/lib/systemd/system/shoehorn.service help
  help=$(program --help) || return
  if grep -q '^  serve ' <<<"$help"; then grep -q 'shoehorn serve' "$unit" && [[ -e $tree/etc/default/shoehorn ]]; else [[ ! -e $unit ]]; fi
}

check "unpacks" unpacks
check "is called shoehorn" field_is Package shoehorn
check "is for $architecture" field_is Architecture "$architecture"
check "depends on libc6 and libcurl" depends_on 'libc6.*libcurl4'
check "has the sums of its files" sums_agree
check "needs no library that a bare system lacks" is_portable
check "starts" starts
check "quantizes to the bytes of build/shoehorn" quantizes
check "tells a story" tells
check "says what pruning needs" lacks_the_workshop
check "has a manual page of the commands that it has" has_manual
check "completes commands, options and files" has_completion
check "has the unit of a server that it has" unit_is_valid
echo "1..$number"
