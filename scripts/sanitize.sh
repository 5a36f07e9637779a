#!/usr/bin/env bash
# What the sanitizers of the usual tests (address, undefined behaviour) do not see.
#   sanitize.sh [tsan|valgrind]...     both when none is named
#   tsan       data races: thread pool, kernels' use of it, engine, batches and scheduler, server
#   valgrind   memory that is read before it is written: everything that parses bytes from outside, on the release build. With the kernels of
#              AVX2 (SHOEHORN_ISA), because Debian's valgrind knows no AVX-512
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

parts=("$@")
((${#parts[@]})) || parts=(tsan valgrind)
failed=0

# run NAME COMMAND...: its last lines, and whether it went well.
run() {
  local name=$1 log status=0
  shift
  log=$(build_dir "$preset")/$name.log
  "$@" >"$log" 2>&1 </dev/null || status=$?
  if ((status)); then
    tail -40 "$log"
    warn "$name failed ($log)"
    failed=1
  else
    echo "$name: $(grep -E '^\[  PASSED  \]' "$log")"
  fi
}

for part in "${parts[@]}"; do
  case $part in
    tsan)
      preset=tsan
      for test in base kernels engine serve eval; do
        note "Threads: $test"
        build_quietly tsan "test_$test"
        # Suites whose name begins with Slow take minutes here.
        TSAN_OPTIONS=halt_on_error=1 run "$test" "$(build_dir tsan)/tests/test_$test" --gtest_brief=0 --gtest_filter='-Slow*'
      done
      ;;
    valgrind)
      preset=release
      command -v valgrind >/dev/null || die "there is no valgrind: apt-get install valgrind"
      for test in io tokenizer grammar models seal fuzz; do
        note "Memory: $test"
        build_quietly release "test_$test"
        # PCRE2's compiled code, which one test compares with, reads whole vectors: what is said of it is not of ours.
        SHOEHORN_ISA=avx2 run "valgrind-$test" valgrind -q --error-exitcode=9 --track-origins=no --leak-check=no \
          "$(build_dir release)/tests/test_$test" --gtest_filter='-Slow*:*DamagedSeeds*:*RoundTrip*:*FlippedBits*:*EveryTruncation*:PreTokenizers.EachEqualsItsRegularExpressions'
      done
      ;;
    *) die "$part: unknown; tsan and valgrind are there" ;;
  esac
done
exit $failed
