#!/usr/bin/env bash
# Installs what is missing, builds, and runs all tests:
#   the release build and its tests, llama.cpp on the files it writes, the Debian packages (arm64 under qemu),
#   the ASan/UBSan build and its unit tests, ten seconds of fuzzing of everything that reads bytes from outside
# What failed is named once more at the end. The last line is "N passed, N failed, N skipped"; the exit status is 1 when
# anything failed.
#   test.sh [--quick]     --quick: the release build's tests only
# SHOEHORN_REQUIRE_SHARED=1   tests that lack data under ../shared fail instead of being skipped
# SHOEHORN_REQUIRE_INTEROP=1  so do the interoperability tests when llama.cpp cannot be installed
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

quick=0
case ${1:-} in
  --quick) quick=1 ;;
  '') ;;
  *) echo "usage: test.sh [--quick]" >&2 && exit 2 ;;
esac

passed=0 failed=0 skipped=0 failures=()

# add PASSED FAILED SKIPPED
add() { ((passed += $1, failed += $2, skipped += $3)) || true; }

# name_failures WHERE, the names on standard input, one to a line
name_failures() {
  local name
  while IFS= read -r name; do failures+=("$1: $name"); done
}

finish() {
  if ((${#failures[@]})); then printf '\nfailed: %s' "${failures[@]}" && echo; fi
  printf '\n%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
  exit $((failed > 0))
}

# run_ctest PRESET [CTEST_OPTION...]: builds the preset and runs its tests. A failed build counts as one failure, and is
# the only thing that gives status 1.
run_ctest() {
  local preset=$1 report
  report=$(build_dir "$preset")/tests.xml
  shift
  note "Building ($preset)"
  if ! build "$preset"; then
    warn "the $preset build failed"
    add 0 1 0
    failures+=("$preset: the build")
    return 1
  fi
  note "Tests ($preset)"
  rm -f "$report"
  ctest --test-dir "$(build_dir "$preset")" --parallel "$(jobs_that_fit)" --output-on-failure --no-tests=error \
    --output-junit "$report" "$@" </dev/null || true
  [[ -s $report ]] || {
    add 0 1 0
    failures+=("$preset: ctest left no report")
    return
  }
  # CTest's own "skipped" includes programs that could not be run: only what a test asked for counts as skipped.
  local all run skip
  all=$(grep -c '<testcase ' "$report" || true)
  run=$(grep -c '<testcase .* status="run"' "$report" || true)
  skip=$(grep -cE '<testcase .* status="disabled"|<skipped message="SKIP_' "$report" || true)
  add "$run" $((all > 0 ? all - run - skip : 1)) "$skip"
  name_failures "$preset" < <(awk -F'"' '
    /<testcase / { name = /status="(run|disabled)"/ ? "" : $2 }
    /<skipped message="SKIP_/ { name = "" }
    /<\/testcase>/ && name != "" { print name }' "$report")
}

run_interop() {
  local dir=$root/tests/interop report
  note "Interoperability with llama.cpp"
  if ! cmp -s "$dir/package-lock.json" "$dir/node_modules/.installed-lock.json"; then
    echo "skipped: llama.cpp is not installed (scripts/setup.sh --tests)"
    add 0 0 "$(find "$dir" -maxdepth 1 -name '*.mjs' | wc -l)"
    return
  fi
  report=$(build_dir release)/interop.tap
  rm -f "$report"
  (cd "$dir" && node_modules/.bin/node --test --test-concurrency=1 \
    --test-reporter=spec --test-reporter-destination=stdout --test-reporter=tap --test-reporter-destination="$report" \
    ./*.mjs </dev/null) || true
  count() { awk -v key="$1" '$1 == "#" && $2 == key { n = $3 } END { print n + 0 }' "$report"; }
  if [[ ! -s $report ]]; then add 0 1 0; else add "$(count pass)" $(($(count fail) + $(count cancelled))) "$(count skipped)"; fi
  name_failures interop < <(sed -n 's/^ *not ok [0-9]* - //p' "$report")
}

# The packages of the runtime, each unpacked and tried.
run_packages() {
  local architecture package report
  for architecture in amd64 arm64; do
    note "Package ($architecture)"
    if [[ $(dpkg --print-architecture) != amd64 ]] ||
      { [[ $architecture == arm64 ]] && ! command -v aarch64-linux-gnu-g++ qemu-aarch64 >/dev/null; }; then
      echo "skipped: this takes an amd64 machine, for arm64 with a cross compiler and qemu (scripts/setup.sh --aarch64)"
      add 0 0 1
      continue
    fi
    if ! package=$("$root/scripts/package.sh" "$architecture"); then
      add 0 1 0
      failures+=("package: $architecture was not made")
      continue
    fi
    report=$("$root/tests/package/check.sh" "$architecture" "$package")
    echo "$report"
    add "$(grep -c '^ok' <<<"$report")" "$(grep -c '^not ok' <<<"$report")" 0
    name_failures "package $architecture" < <(sed -n 's/^not ok *//p' <<<"$report")
  done
}

# Every target counts as a test; what a longer run once found is among the unit tests (tests/golden-errors).
run_fuzz() {
  local report
  note "Fuzzing"
  if ! command -v clang++ >/dev/null; then
    echo "skipped: clang is not installed (scripts/setup.sh --tests)"
    add 0 0 1
    return
  fi
  report=$(mktemp)
  "$root/scripts/fuzz.sh" --seconds 10 --json "$report" || true
  if [[ -s $report ]]; then
    add "$(jq 'map(select(.findings == 0 and .executions > 0)) | length' "$report")" \
      "$(jq 'map(select(.findings > 0 or .executions == 0)) | length' "$report")" 0
    name_failures fuzz < <(jq -r 'map(select(.findings > 0 or .executions == 0)) | .[].target' "$report")
  else
    add 0 1 0
    failures+=("fuzz: no report")
  fi
  rm -f "$report"
}

if ! "$root/scripts/setup.sh" --tests; then
  add 0 1 0
  failures+=("scripts/setup.sh --tests")
  finish
fi
if run_ctest release; then run_interop; fi
if ((!quick)); then
  run_packages
  # Suites whose name begins with Slow take minutes under the sanitizers; the structure tests read the release objects.
  export UBSAN_OPTIONS=print_stacktrace=1
  run_ctest asan-ubsan --label-exclude structure --exclude-regex '^[a-z]+\.Slow' || true
  run_fuzz
fi
finish
