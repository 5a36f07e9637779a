#!/usr/bin/env bash
# Kills commands that write at many points, and injects read errors, write errors, full disks and short writes (tests/crash).
#   crash.sh [--points N] [COMMAND...]     kills for each command (200), a quarter as many of each other fault; all commands when none is named
#   --json FILE                            the table as JSON
# Ends with a table: command, fault, how often, what was there afterwards, bytes lost. Exit status 1 when anything was lost.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

points=200 json='' commands=()
while (($#)); do
  case $1 in
    --points) points=$2 && shift ;;
    --json) json=$2 && shift ;;
    --help) sed -n '2,5s/^# \{0,1\}//p' "$0" && exit ;;
    -*) die "$1: unknown option; --help says which there are" ;;
    *) commands+=("$1") ;;
  esac
  shift
done
note "Building"
build_quietly release shoehorn
build_quietly release test_crash
dir=$(build_dir release)
table=$(mktemp) && trap 'rm -f "$table"' EXIT
filter='*'
if ((${#commands[@]})); then filter=$(printf '*/%s:' "${commands[@]}"); fi
note "$points kills for each command"
status=0
SHOEHORN_FAULT_POINTS=$points SHOEHORN_FAULT_TABLE=$table "$dir/tests/test_crash" --gtest_filter="$filter" --gtest_brief=1 || status=1
printf '\n| command | fault | injected | system calls where it can be | as it was afterwards | whole afterwards | bytes lost |\n|---|---|--:|--:|--:|--:|--:|\n'
jq -r '"| \(.command) | \(.fault) | \(.tried) | \(.places) | \(.kept) | \(.written) | \(.bytes_lost) |"' "$table"
[[ -z $json ]] || jq -s . "$table" >"$json"
exit $status
