# Shared by the scripts here (sourced, not run): the repository's root, messages, the build.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

note() { printf '\n== %s\n' "$*"; }
warn() { printf 'warning: %s\n' "$*" >&2; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# Parallel compilations: one per CPU, but no more than the free memory carries (a heavy file takes about 1.5 GB).
build_jobs() {
  local cpus free_kb by_memory
  cpus=$(nproc)
  free_kb=$(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo)
  by_memory=$((free_kb / 1500000))
  ((by_memory < cpus)) && cpus=$by_memory
  echo $((cpus > 0 ? cpus : 1))
}

# build DIR [CMAKE_OPTION...] [-- TARGET...]: configures and builds. A new folder gets Ninja; one that is there keeps its generator.
build() {
  local dir=$1 options=() targets=()
  shift
  while (($#)) && [[ $1 != -- ]]; do
    options+=("$1")
    shift
  done
  (($#)) && shift && targets=(--target "$@")
  if command -v ninja >/dev/null; then export CMAKE_GENERATOR=Ninja; fi
  cmake -S "$root" -B "$dir" "${options[@]}" >"$dir.configure.log" 2>&1 || {
    cat "$dir.configure.log" >&2
    return 1
  }
  cmake --build "$dir" --parallel "$(build_jobs)" "${targets[@]}"
}
