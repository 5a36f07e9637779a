#!/usr/bin/env bash
# Fuzzes everything that reads bytes from outside (tests/fuzz/targets.inc) with clang's libFuzzer.
#   fuzz.sh [OPTION...] [TARGET...]        all targets when none is named
#   --seconds N     seconds of CPU for each target (60)
#   --jobs N        targets at once (as many as there are CPUs)
#   --coverage      afterwards: which share of the parsers' lines the collected inputs reach (a build of its own)
#   --totals        no fuzzing: the table of all runs so far
#   --json FILE     the table as JSON
# Inputs that reach something new are kept in build-fuzz/corpus/TARGET, where the next run begins; what each run did is added up in
# build-fuzz/totals. Findings are in build-fuzz/findings and make the exit status 1 (build-fuzz/tests/fuzz_TARGET FILE shows one). One
# that is mended becomes tests/golden-errors/TARGET/NAME.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

seconds=60 jobs=$(nproc) coverage=0 fuzzing=1 json='' targets=()
while (($#)); do
  case $1 in
    --seconds) seconds=$2 && shift ;;
    --jobs) jobs=$2 && shift ;;
    --coverage) coverage=1 ;;
    --totals) fuzzing=0 ;;
    --json) json=$2 && shift ;;
    --help) sed -n '2,11s/^# \{0,1\}//p' "$0" && exit ;;
    -*) die "$1: unknown option; --help says which there are" ;;
    *) targets+=("$1") ;;
  esac
  shift
done
command -v clang++ >/dev/null || die "there is no clang: apt-get install clang llvm libclang-rt-dev"

# row TARGET: its name and the files of src that read its input, as targets.inc has them.
row() { sed -nE "s/^SHOEHORN_FUZZ_TARGET\\(($1), \"(.*)\"\\)\$/\\1 \\2/p" "$root/tests/fuzz/targets.inc"; }
mapfile -t all < <(row '[a-z_]+' | cut -d' ' -f1)
((${#targets[@]})) || targets=("${all[@]}")
for target in "${targets[@]}"; do [[ -n $(row "$target") ]] || die "$target is no target; these are: ${all[*]}"; done

dir=$(build_dir fuzz)
findings=$dir/findings totals=$dir/totals
most_findings=3

found() { find "$findings" -name "$1-*" -type f | wc -l; }

# fuzz TARGET: until it had its seconds of CPU; libFuzzer's own limit is by the clock, so it takes more than one run on a busy machine.
fuzz() {
  local target=$1 corpus=$dir/corpus/$1 log=$dir/$1.log runs=0 used=0 left user system n
  local TIMEFORMAT='%U %S'
  mkdir -p "$corpus"
  while left=$(awk -v s="$seconds" -v u="$used" 'BEGIN { print int(s - u + 0.999) }') && ((left > 0)); do
    (($(found "$target") < most_findings)) || break
    { time (cd "$findings" && "$dir/tests/fuzz_$target" -max_total_time="$left" -rss_limit_mb=2048 -malloc_limit_mb=1024 -timeout=20 \
      -max_len=200000 -artifact_prefix="$target-" -print_final_stats=1 "$corpus" "$dir/seeds/$target" >"$log" 2>&1) || true; } 2>"$log.time"
    read -r user system <"$log.time"
    used=$(awk -v a="$used" -v b="$user" -v c="$system" 'BEGIN { print a + b + c }')
    n=$(awk '/^stat::number_of_executed_units/ { print $2 }' "$log")
    # Without figures it did not run, and would not the next time.
    [[ -n $n ]] || { warn "$target: see $log" && break; }
    runs=$((runs + n))
  done
  local before_used=0 before_runs=0
  if [[ -f $totals/$target ]]; then read -r before_used before_runs <"$totals/$target"; fi
  awk -v a="$before_used" -v b="$used" -v c="$before_runs" -v d="$runs" 'BEGIN { printf "%.0f %.0f\n", a + b, c + d }' >"$totals/$target"
}

# covered TARGET: the percentage of its sources' lines that corpus and seeds reach.
covered() {
  local where sources
  where=$(build_dir fuzz-coverage)
  read -r _ sources <<<"$(row "$1")"
  LLVM_PROFILE_FILE="$where/$1.profraw" "$where/tests/fuzz_$1" -runs=0 -rss_limit_mb=4096 -timeout=60 "$dir/corpus/$1" "$dir/seeds/$1" \
    >"$where/$1.log" 2>&1 || warn "$1: see $where/$1.log"
  llvm-profdata merge -sparse "$where/$1.profraw" -o "$where/$1.profdata"
  # Picked out here: with ccache the names of files are relative.
  llvm-cov export -summary-only "$where/tests/fuzz_$1" -instr-profile="$where/$1.profdata" |
    jq -r --arg sources "$sources" '[.data[0].files[] | . as $file | select(any($sources | split(" ")[]; . as $s | $file.filename | endswith("src/" + $s))).summary.lines]
      | (map(.covered) | add) / (map(.count) | add) * 1000 | round / 10'
}

mkdir -p "$findings" "$totals"
if ((fuzzing)); then
  note "Building"
  build_quietly fuzz fuzzers
  "$dir/tests/write_seeds" "$dir/seeds" >/dev/null
  note "Fuzzing ${#targets[@]} targets, $seconds s of CPU each, $jobs at once"
  for target in "${targets[@]}"; do
    while (($(jobs -rp | wc -l) >= jobs)); do wait -n || true; done
    fuzz "$target" &
  done
  wait
fi
if ((coverage)); then
  note "Building for coverage"
  build_quietly fuzz-coverage fuzzers
fi

rows='[]'
printf '\n| target | CPU seconds | executions | inputs kept | findings | lines of its sources |\n|---|--:|--:|--:|--:|--:|\n'
for target in "${targets[@]}"; do
  [[ -f $totals/$target ]] || continue
  read -r used runs <"$totals/$target"
  kept=$(find "$dir/corpus/$target" -type f | wc -l) lines=null
  if ((coverage)); then lines=$(covered "$target"); fi
  printf '| %s | %s | %s | %s | %s | %s |\n' "$target" "$used" "$runs" "$kept" "$(found "$target")" "${lines/null/–}"
  rows=$(jq -c --arg target "$target" --argjson seconds "$used" --argjson executions "$runs" --argjson inputs "$kept" \
    --argjson findings "$(found "$target")" --argjson lines_percent "$lines" '. + [$ARGS.named]' <<<"$rows")
done
[[ -z $json ]] || echo "$rows" >"$json"
if [[ -n $(find "$findings" -type f) ]]; then
  warn "findings: $findings"
  exit 1
fi
