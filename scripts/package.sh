#!/usr/bin/env bash
# Builds the runtime's Debian packages: what runs on a device, without libtorch and the commands that need it.
#   package.sh [amd64|arm64]... [-o DIR]     default: this machine's architecture, in build-package/
# This machine's has the program of the release build, build/shoehorn. arm64 is cross-compiled on amd64 (setup.sh --aarch64 installs what that needs). The same commit gives the same bytes.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
  echo "usage: package.sh [amd64|arm64]... [-o DIR]" >&2
  exit 2
}

out=$root/build-package architectures=()
while (($#)); do
  case $1 in
    amd64 | arm64) architectures+=("$1") ;;
    -o) out=${2:?-o needs a folder} && shift ;;
    *) usage ;;
  esac
  shift
done
native=$(dpkg --print-architecture)
((${#architectures[@]})) || architectures=("$native")

cd "$root"
number=$(sed -n 's/^project(shoehorn VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt)
version=$number
if commit=$(git rev-parse --short=12 HEAD 2>/dev/null); then
  SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
  version+="+git$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y%m%d).$commit"
else
  SOURCE_DATE_EPOCH=$(stat -c %Y CMakeLists.txt)
fi
export SOURCE_DATE_EPOCH

# compile ARCHITECTURE: says where the program is then.
compile() {
  local preset=release
  if [[ $1 != "$native" ]]; then
    [[ $1 == arm64 ]] || die "packages for $1 are built on $1"
    command -v aarch64-linux-gnu-g++ >/dev/null || die "there is no cross compiler: scripts/setup.sh --aarch64 installs it"
    preset=aarch64
  fi
  build "$preset" shoehorn >&2 && echo "$(build_dir "$preset")/shoehorn"
}

# depends_of PROGRAM: the packages, with versions, of the shared libraries that it needs.
depends_of() {
  local dir
  dir=$(mktemp -d)
  mkdir "$dir/debian"
  printf 'Source: shoehorn\n\nPackage: shoehorn\nArchitecture: any\n' >"$dir/debian/control"
  (cd "$dir" && dpkg-shlibdeps -O --ignore-missing-info -e"$1" 2>/dev/null | sed 's/^shlibs:Depends=//')
  rm -r "$dir"
}

# assemble ARCHITECTURE PROGRAM TREE
assemble() {
  local program=$2 tree=$3 runner=() strip=strip
  if [[ $1 != "$native" ]]; then
    strip=aarch64-linux-gnu-strip
    command -v qemu-aarch64 >/dev/null || die "there is no qemu-aarch64: scripts/setup.sh --aarch64 installs it"
    runner=(qemu-aarch64)
  fi
  install -D -m 755 "$program" "$tree/usr/bin/shoehorn"
  $strip "$tree/usr/bin/shoehorn"
  mkdir -p "$tree/usr/share/man/man1"
  packaging/man.sh "${runner[@]}" "$tree/usr/bin/shoehorn" | gzip -9n >"$tree/usr/share/man/man1/shoehorn.1.gz"
  install -D -m 644 packaging/completion.bash "$tree/usr/share/bash-completion/completions/shoehorn"
  install -D -m 644 packaging/copyright "$tree/usr/share/doc/shoehorn/copyright"
  install -m 644 README.md "$tree/usr/share/doc/shoehorn/"
  if "${runner[@]}" "$tree/usr/bin/shoehorn" --help | grep -q '^  serve '; then
    install -D -m 644 packaging/shoehorn.service "$tree/lib/systemd/system/shoehorn.service"
    install -D -m 644 packaging/shoehorn.default "$tree/etc/default/shoehorn"
    mkdir -p "$tree/DEBIAN"
    echo /etc/default/shoehorn >"$tree/DEBIAN/conffiles"
  fi
  mkdir -p "$tree/DEBIAN"
  cat >"$tree/DEBIAN/control" <<END
Package: shoehorn
Version: $version
Architecture: $1
Maintainer: The Shoehorn authors <shoehorn@localhost>
Installed-Size: $(du -sk --apparent-size "$tree" | cut -f1)
Depends: $(depends_of "$tree/usr/bin/shoehorn")
Recommends: ca-certificates
Section: science
Priority: optional
Description: runs, quantizes and measures large language models on small machines
 Runs GGUF models on the CPU (chat, batch), quantizes checkpoints and GGUFs, and
 measures perplexity, rates, memory and energy. Pruning, healing and calibrated
 quantization need libtorch and are not part of this package.
END
  (cd "$tree" && find . -path ./DEBIAN -prune -o -type f -printf '%P\n' | LC_ALL=C sort | xargs md5sum) >"$tree/DEBIAN/md5sums"
  find "$tree" -newermt "@$SOURCE_DATE_EPOCH" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
}

mkdir -p "$out"
for architecture in "${architectures[@]}"; do
  note "shoehorn $version for $architecture" >&2
  program=$(compile "$architecture") || die "the build for $architecture failed"
  tree=$(mktemp -d)
  chmod 755 "$tree"
  assemble "$architecture" "$program" "$tree"
  package=$out/shoehorn_${version}_$architecture.deb
  rm -f "$out"/shoehorn_*_"$architecture".deb
  dpkg-deb --root-owner-group --build "$tree" "$package" >&2
  rm -r "$tree"
  echo "$package"
done
