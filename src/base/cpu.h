// What the CPU at hand can do, as bits that the kernel table asks for.
#pragma once

#include <cstdint>

namespace shoehorn {

enum CpuFeature : uint32_t {
  kCpuBaseline = 0,
  kCpuAvx2 = 1u << 0,     ///< AVX2 + FMA + F16C + BMI2 (x86-64-v3)
  kCpuAvx512 = 1u << 1,   ///< AVX-512 F/BW/CD/DQ/VL (x86-64-v4)
  kCpuAvxVnni = 1u << 2,
  kCpuAvx512Vnni = 1u << 3,
  kCpuAvx512Bf16 = 1u << 4,
  kCpuFastBf16 = 1u << 5,  ///< AVX512-BF16 that multiplies more a cycle than float FMA does: AMD's, not Intel's without AMX
  kCpuNever = 1u << 31,    ///< no CPU has it
};

/// Features of this machine, detected once (CPUID, and the operating system's consent to wide registers).
uint32_t cpu_features();

}  // namespace shoehorn
