# Shared by the scripts here (sourced, not run): the repository's root, messages, the build.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

note() { printf '\n== %s\n' "$*"; }
warn() { printf 'warning: %s\n' "$*" >&2; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# Parallel jobs: one per CPU, but no more than the free memory carries (compiling a heavy file takes about 1.5 GB).
jobs_that_fit() {
  local cpus by_memory
  cpus=$(nproc)
  by_memory=$(awk '/^MemAvailable:/ { print int($2 / 1500000) }' /proc/meminfo)
  ((by_memory < cpus)) && cpus=$by_memory
  echo $((cpus > 0 ? cpus : 1))
}

# The folder that a preset of CMakePresets.json builds in.
build_dir() {
  if [[ $1 == release ]]; then echo "$root/build"; else echo "$root/build-$1"; fi
}

# build PRESET [TARGET]: configures and builds. A new folder gets Ninja; one that is there keeps its generator.
build() {
  local dir
  dir=$(build_dir "$1")
  if command -v ninja >/dev/null; then export CMAKE_GENERATOR=Ninja; fi
  if command -v ccache >/dev/null; then export CMAKE_CXX_COMPILER_LAUNCHER=ccache; fi
  mkdir -p "$dir"
  (cd "$root" && cmake --preset "$1") >"$dir/configure.log" 2>&1 || {
    cat "$dir/configure.log" >&2
    return 1
  }
  cmake --build "$dir" --parallel "$(jobs_that_fit)" ${2:+--target "$2"}
}

# build_quietly PRESET [TARGET]: what it says goes to build.log in the preset's folder, whose name ends the script when it fails.
build_quietly() {
  local log
  log=$(build_dir "$1")/build.log
  mkdir -p "$(build_dir "$1")"
  build "$@" >"$log" 2>&1 || die "the build failed: $log"
}
