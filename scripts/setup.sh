#!/usr/bin/env bash
# Installs what Shoehorn needs on Debian 12 (or a system with the same packages); does nothing when all is there.
#   setup.sh             compiler and libraries: the program and its tests build
#   setup.sh --tests     also llama.cpp, from npm, for the interoperability tests, what makes the chat page, a browser for
#                        it and the report, an sshd for deployment, HAProxy for servers, clang for fuzzing, minisign, and what --aarch64 installs
#   setup.sh --aarch64   also the cross compiler, arm64 libraries and qemu
# Asks sudo for rights when not root, and only when something is missing.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

packages=(g++ make cmake ninja-build libfmt-dev nlohmann-json3-dev libcli11-dev libexpected-dev libutf8proc-dev
  libedit-dev libgtest-dev libpcre2-dev jq libtorch-dev libopenblas-openmp-dev libgloo-dev
  libtomlplusplus-dev libcurl4-openssl-dev libssl-dev libsodium-dev libboost1.81-dev)
aarch64_packages=(dpkg-dev g++-aarch64-linux-gnu qemu-user libfmt-dev:arm64 libutf8proc-dev:arm64 libedit-dev:arm64
  libgtest-dev:arm64 libpcre2-dev:arm64 libcurl4-openssl-dev:arm64 libssl-dev:arm64
  libsodium-dev:arm64)

as_root() {
  if ((EUID == 0)); then
    "$@"
  else
    sudo "$@"
  fi
}

apt_get() { as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=3 -o Dpkg::Use-Pty=0 "$@" </dev/null; }

# install_packages PACKAGE...: those that are missing.
install_packages() {
  local missing=() package
  for package; do
    [[ $(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null) == ii* ]] || missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  command -v apt-get >/dev/null || die "no apt-get here; please install by hand: ${missing[*]}"
  ((EUID == 0)) || command -v sudo >/dev/null ||
    die "these packages are missing, and installing them needs root or sudo: ${missing[*]}"
  note "Installing ${missing[*]}"
  apt_get update || warn "apt-get update failed; trying with the package lists at hand"
  apt_get install -y --no-install-recommends "${missing[@]}" >/dev/null ||
    { apt_get update && apt_get install -y --no-install-recommends "${missing[@]}" >/dev/null; } ||
    { warn "apt-get could not install ${missing[*]}" && return 1; }
}

# llama.cpp for the interoperability tests: node-llama-cpp with its prebuilt x86-64 library, and a Node.js to run it.
install_interop() {
  local dir=$root/tests/interop
  [[ $(uname -m) == x86_64 ]] || { warn "the interoperability tests need an x86-64 machine" && return 1; }
  cmp -s "$dir/package-lock.json" "$dir/node_modules/.installed-lock.json" && return 0
  if ! command -v npm >/dev/null; then install_packages nodejs npm || return 1; fi
  note "Installing llama.cpp for the interoperability tests (npm)"
  (cd "$dir" && npm ci --ignore-scripts --omit=optional --no-audit --no-fund --loglevel=error \
    --fetch-retry-mintimeout=1000 --fetch-retry-maxtimeout=5000 </dev/null >&2) || return 1
  cp "$dir/package-lock.json" "$dir/node_modules/.installed-lock.json"
}

# What makes web/page.html, to test that it is what its sources make. Building the program takes none of it.
install_web() {
  local dir=$root/web
  cmp -s "$dir/package-lock.json" "$dir/node_modules/.installed-lock.json" && return 0
  (cd "$dir" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error \
    --fetch-retry-mintimeout=1000 --fetch-retry-maxtimeout=5000 </dev/null >&2) || return 1
  cp "$dir/package-lock.json" "$dir/node_modules/.installed-lock.json"
}

install_aarch64() {
  if ! dpkg --print-foreign-architectures | grep -qx arm64; then as_root dpkg --add-architecture arm64; fi
  install_packages "${aarch64_packages[@]}"
}

# install_daemon PROGRAM PACKAGE UNIT: tests start one of their own; the system's is not to run because of them.
install_daemon() {
  [[ -x $1 ]] && return 0
  local has_systemd=0
  if [[ -d /run/systemd/system ]]; then has_systemd=1; fi
  ((!has_systemd)) || as_root systemctl mask --quiet "$3"
  install_packages "$2" || return 1
  ((!has_systemd)) || { as_root systemctl unmask --quiet "$3" && as_root systemctl disable --quiet "$3"; }
}

with_interop=0 with_aarch64=0
for option; do
  case $option in
    --tests) with_interop=1 ;;
    --aarch64) with_aarch64=1 ;;
    *) echo "usage: setup.sh [--tests] [--aarch64]" >&2 && exit 2 ;;
  esac
done

install_packages "${packages[@]}" || exit 1
if ((with_interop)) && ! install_interop; then
  [[ ${SHOEHORN_REQUIRE_INTEROP:-0} == 1 ]] && die "llama.cpp for the interoperability tests could not be installed"
  warn "llama.cpp could not be installed: the interoperability tests will be skipped"
fi
if ((with_interop)) && ! install_web; then
  [[ ${SHOEHORN_REQUIRE_INTEROP:-0} == 1 ]] && die "what makes the chat page could not be installed"
  warn "what makes the chat page could not be installed: that it is made of its sources will not be tested"
fi
if ((with_interop)) && ! command -v chromium >/dev/null; then
  install_packages chromium || warn "chromium could not be installed: the report's browser tests will be skipped"
fi
if ((with_interop)); then
  install_daemon /usr/sbin/sshd openssh-server ssh.service || warn "sshd could not be installed: the deployment tests will be skipped"
  install_daemon /usr/sbin/haproxy haproxy haproxy.service || warn "HAProxy could not be installed: its test will be skipped"
  install_packages clang llvm libclang-rt-dev || warn "clang could not be installed: nothing will be fuzzed"
  install_packages minisign || warn "minisign could not be installed: that it reads our signatures will not be tested"
  install_aarch64 || warn "the cross compiler could not be installed: the arm64 package will not be tested"
elif ((with_aarch64)); then
  install_aarch64 || exit 1
fi
