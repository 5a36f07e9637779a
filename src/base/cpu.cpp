#include "base/cpu.h"

namespace shoehorn {

uint32_t cpu_features() {
  static const uint32_t features = [] {
    uint32_t bits = 0;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2") &&
        __builtin_cpu_supports("avx")) {
      bits |= kCpuAvx2;
      if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
          __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
          __builtin_cpu_supports("avx512vl")) {
        bits |= kCpuAvx512;
      }
    }
#endif
    return bits;
  }();
  return features;
}

}  // namespace shoehorn
