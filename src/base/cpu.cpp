#include "base/cpu.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace shoehorn {

uint32_t cpu_features() {
  static const uint32_t features = [] {
    uint32_t bits = 0;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2") &&
        __builtin_cpu_supports("avx")) {
      bits |= kCpuAvx2;
      unsigned a = 0, b = 0, c = 0, d = 0;
      if (__get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & (1u << 4)) != 0) bits |= kCpuAvxVnni;  // g++ 12 has no name for it
      if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
          __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
          __builtin_cpu_supports("avx512vl")) {
        bits |= kCpuAvx512;
        if (__builtin_cpu_supports("avx512vnni")) bits |= kCpuAvx512Vnni;
        if (__builtin_cpu_supports("avx512bf16")) {
          bits |= kCpuAvx512Bf16;
          if (__builtin_cpu_is("amd")) bits |= kCpuFastBf16;
          constexpr unsigned kAmxBf16 = 1u << 22;  // clang 14 has no name for it
          if (__get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d & kAmxBf16) != 0) bits |= kCpuAmxBf16;
        }
      }
    }
#elif defined(__aarch64__)
    const unsigned long first = getauxval(AT_HWCAP), second = getauxval(AT_HWCAP2);
    if ((first & HWCAP_ASIMD) != 0) bits |= kCpuNeon;
    if ((first & HWCAP_ASIMDDP) != 0) bits |= kCpuDotProduct;
    if ((second & HWCAP2_I8MM) != 0) bits |= kCpuInt8Matrix;
#endif
    return bits;
  }();
  return features;
}

}  // namespace shoehorn
