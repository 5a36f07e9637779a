#!/usr/bin/env bash
# What llvm-mca says of the decode loops on the cores of a Raspberry Pi 4 and 5, as a markdown table; with --llama-cpp also of the
# loops that llama.cpp's sources in DIR compile to, with the same compiler and flags; with --bitnet or --t-mac also, in a table of its own, of
# the loops for ternary weights of bitnet.cpp and T-MAC, compiled with clang, which they ask for.
#   bench/mca.sh [--llama-cpp DIR] [--bitnet DIR] [--t-mac DIR]
# Needs g++-aarch64-linux-gnu and llvm-19, for the last two clang. LLVM knows the Cortex-A72 as an A57, and the A76 as its twin, the Neoverse N1.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
llama='' bitnet='' tmac=''
while (($#)); do
  case $1 in
    --llama-cpp) llama=${2:?--llama-cpp needs the directory of its sources} ;;
    --bitnet) bitnet=${2:?--bitnet needs the directory of its sources} ;;
    --t-mac) tmac=${2:?--t-mac needs the directory of its sources} ;;
    *) echo "usage: mca.sh [--llama-cpp DIR] [--bitnet DIR] [--t-mac DIR]" >&2 && exit 2 ;;
  esac
  shift 2
done
mca=${LLVM_MCA:-llvm-mca-19}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# loops ASSEMBLY FUNCTION FILE LOOKUP: the loop of the function with the most products to FILE.inner. When it has less than 256 of them and
# is inside another loop, the rest of that one to FILE.outer. Prints the products in each. Where tables are looked up, not multiplied, a
# lookup (of 16 entries) stands for LOOKUP products.
loops() {
  awk -v name="$2" -v file="$3" -v lookup="$4" '
    function products(text) {
      if (lookup) return text ~ /^\ttbl\t/ ? lookup : 0
      if (text ~ /^\t[su]dot\t/) return 16
      return text ~ /^\t(smull2?|smlal2?)\tv[0-9]+\.8h/ ? 8 : 0
    }
    function count(from, to, skip_from, skip_to, i, total) {
      for (i = from; i <= to; i++) if (i < skip_from || i > skip_to) total += products(line[i])
      return total + 0
    }
    function write(to_file, from, to, skip_from, skip_to, i) {
      printf "" > to_file
      for (i = from; i <= to; i++) if ((i < skip_from || i > skip_to) && line[i] ~ /^\t[a-z]/) print line[i] > to_file
    }
    $1 == name ":" { inside = 1; next }
    inside && $1 == ".size" { exit }
    inside { line[++n] = $0; if ($1 ~ /^\.L[A-Z0-9_]+:$/) at[substr($1, 1, length($1) - 1)] = n }
    END {
      for (i = 1; i <= n; i++) {
        fields = split(line[i], f, /[\t, ]+/)
        target = f[fields]
        if (f[2] == "ret") returned = i
        # A way back from behind the return comes from a block that is hardly ever run.
        if (f[2] ~ /^(b\.?[a-z]*|cbn?z|tbn?z)$/ && (target in at) && at[target] < i && returned < at[target]) { from[++k] = at[target]; to[k] = i }
      }
      for (a = 1; a <= k; a++) {  # innermost: no other loop begins in it. Ends may be in any order.
        inner = 1
        for (b = 1; b <= k; b++) if (from[b] > from[a] && from[b] <= to[a]) inner = 0
        if (inner && count(from[a], to[a]) > most) { most = count(from[a], to[a]); best = a }
      }
      write(file ".inner", from[best], to[best])
      outer = 0
      if (most < 256) {
        for (a = 1; a <= k; a++) if (from[a] < from[best] && to[a] >= from[best] && (!outer || from[a] > from[outer])) outer = a
        if (outer && to[outer] < to[best]) to[outer] = to[best]
      }
      if (outer) write(file ".outer", from[outer], to[outer], from[best], to[best])
      else printf "" > (file ".outer")
      print most + 0, outer ? count(from[outer], to[outer], from[best], to[best]) : 0
    }' "$1"
}

# per_iteration CPU FILE: cycles of one pass
per_iteration() {
  [[ -s $2 ]] || { echo 0 && return; }
  "$mca" -mtriple=aarch64-linux-gnu -mcpu="$1" -mattr=+dotprod -iterations=100 "$2" 2>/dev/null |
    awk '/^Total Cycles/ { print $3 / 100; exit }'
}

# cycles ASSEMBLY FUNCTION CPU [LOOKUP]: per 256 weights, or a dash
cycles() {
  local inner outer
  grep -q "^$2:" "$1" || { echo - && return; }
  read -r inner outer < <(loops "$1" "$2" "$work/loop" "${4:-0}")
  ((inner > 0)) || { echo - && return; }
  awk -v inner="$inner" -v rest="$outer" -v a="$(per_iteration "$3" "$work/loop.inner")" -v b="$(per_iteration "$3" "$work/loop.outer")" \
    'BEGIN { print int(0.5 + (inner >= 256 || b == 0 ? a * 256 / inner : b + a * (256 - rest) / inner)) }'
}

compile() { aarch64-linux-gnu-gcc -O3 -DNDEBUG -fno-math-errno -S "$@"; }

declare -A march=([cortex-a72]="-march=armv8-a -mtune=cortex-a72" [neoverse-n1]="-march=armv8.2-a+dotprod -mtune=cortex-a76")
for cpu in cortex-a72 neoverse-n1; do
  # shellcheck disable=SC2086
  compile -x c++ -std=c++20 -Wno-psabi ${march[$cpu]} -I "$root/src" -o "$work/ours-$cpu.s" "$root/bench/mca.cpp"
  if [[ -n $llama ]]; then
    ggml=$llama/ggml
    # shellcheck disable=SC2086
    compile -x c -w ${march[$cpu]} -D_GNU_SOURCE -I "$ggml/include" -I "$ggml/src" -I "$ggml/src/ggml-cpu" \
      -o "$work/theirs-$cpu.s" "$ggml/src/ggml-cpu/arch/arm/quants.c"
  fi
done

# tokens BYTES CYCLES GHZ GB_S: tokens a second of 8.03e9 weights on four cores
tokens() {
  [[ $2 == - ]] && { echo - && return; }
  awk -v bytes="$1" -v cycles="$2" -v ghz="$3" -v gbs="$4" 'BEGIN {
    blocks = 8.03e9 / 256
    compute = 4 * ghz * 1e9 / (blocks * cycles)
    memory = gbs * 1e9 / (blocks * bytes)
    printf "%.2f%s\n", compute < memory ? compute : memory, compute < memory ? "" : " (memory)"
  }'
}

echo "| format | bytes | A72 cycles${llama:+ | llama.cpp}  | A76 cycles${llama:+ | llama.cpp} | Pi 4 tokens/s${llama:+ | llama.cpp} | Pi 5 tokens/s${llama:+ | llama.cpp} |"
echo "|---|--:|--:|--:|--:|--:|${llama:+--:|--:|--:|--:|}"
row() {  # NAME BYTES LLAMA_FUNCTION
  local a72 n1 a72_theirs=- n1_theirs=-
  a72=$(cycles "$work/ours-cortex-a72.s" "$1" cortex-a72)
  n1=$(cycles "$work/ours-neoverse-n1.s" "$1" neoverse-n1)
  if [[ -n $llama ]]; then
    a72_theirs=$(cycles "$work/theirs-cortex-a72.s" "ggml_vec_dot_$3" cortex-a72)
    n1_theirs=$(cycles "$work/theirs-neoverse-n1.s" "ggml_vec_dot_$3" neoverse-n1)
  fi
  echo "| $1 | $2 | $a72${llama:+ | $a72_theirs} | $n1${llama:+ | $n1_theirs} | $(tokens "$2" "$a72" 1.5 4)${llama:+ | $(tokens "$2" "$a72_theirs" 1.5 4)} | $(tokens "$2" "$n1" 2.4 11)${llama:+ | $(tokens "$2" "$n1_theirs" 2.4 11)} |"
}
row Q4_0 144 q4_0_q8_0
row Q4_1 160 q4_1_q8_1
row Q5_0 176 q5_0_q8_0
row Q5_1 192 q5_1_q8_1
row Q8_0 272 q8_0_q8_0
row IQ4_NL 144 iq4_nl_q8_0
row Q2_K 84 q2_K_q8_K
row Q3_K 110 q3_K_q8_K
row Q4_K 144 q4_K_q8_K
row Q5_K 176 q5_K_q8_K
row Q6_K 210 q6_K_q8_K
row IQ4_XS 136 iq4_xs_q8_K
row TQ1_0 54 tq1_0_q8_K
row TQ2_0 66 tq2_0_q8_K

[[ -n $bitnet$tmac ]] || exit 0
# Of files that do not compile alone only the functions.
if [[ -n $bitnet ]]; then
  between() { awk -v from="$2" -v to="$3" 'index($0, from) == 1 { inside = 1 } index($0, to) == 1 { inside = 0 } inside' "$1"; }
  {
    printf '#include <arm_neon.h>\n#include <cstddef>\n#include <cstdint>\n#define QK_I2_S 64\nextern "C" {\n'
    between "$bitnet/src/ggml-bitnet-mad.cpp" 'void ggml_vec_dot_i2_i8_s_1x1(' 'void ggml_vec_dot_i2_i8_s_1x4'
    printf '}\n'
    for shape in 3200_3200 3200_8640; do
      between "$bitnet/preset_kernels/bitnet_b1_58-3B/bitnet-lut-kernels-tl1.h" "#define BM$shape" "int32_t qgemm_lut_$shape"
      printf 'extern "C" __attribute__((flatten)) void TL1_%s(int32_t* c, int8_t* lut, uint8_t* a) { tbl_impl_%s(c, lut, a); }\n' $shape $shape
    done
  } >"$work/bitnet.cpp"
fi
if [[ -n $tmac ]]; then
  {
    cat "$tmac/python/t_mac/intrins/tbl.cc"
    printf 'extern "C" __attribute__((flatten)) int32_t TMAC(int32_t m, int16_t* c, int8_t* lut, uint8_t* a) { return tbl_g4_int8_int16_update_impl<16, 2>(m, c, lut, a); }\n'
  } >"$work/t-mac.cpp"
fi
for cpu in cortex-a72 neoverse-n1; do
  for peer in bitnet t-mac; do
    [[ -f $work/$peer.cpp ]] || continue
    # shellcheck disable=SC2086
    clang++ --target=aarch64-linux-gnu -O3 -DNDEBUG -w ${march[$cpu]} -S -o "$work/$peer-$cpu.s" "$work/$peer.cpp"
  done
done
# peer NAME FILE FUNCTION BYTES LOOKUP
peer() {
  [[ ! -f $work/$2-cortex-a72.s ]] || echo "| $1 | $4 | $(cycles "$work/$2-cortex-a72.s" "$3" cortex-a72 "$5") | $(cycles "$work/$2-neoverse-n1.s" "$3" neoverse-n1 "$5") |"
}
printf '\n| ternary weights | bytes | A72 cycles | A76 cycles |\n|---|--:|--:|--:|\n'
peer TQ2_0 ours TQ2_0 66 0
peer TQ1_0 ours TQ1_0 54 0
peer "bitnet.cpp I2_S" bitnet ggml_vec_dot_i2_i8_s_1x1 64 0
# Two weights an entry, its two bytes in two tables; four weights an entry, of each of two bits.
peer "bitnet.cpp TL1, 3200 x 3200" bitnet TL1_3200_3200 64 16
peer "bitnet.cpp TL1, 3200 x 8640" bitnet TL1_3200_8640 64 16
peer "T-MAC, 2 bits" t-mac TMAC 64 32
