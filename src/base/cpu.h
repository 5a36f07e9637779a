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
  kCpuNeon = 1u << 6,      ///< Advanced SIMD (every 64-bit ARM in use)
  kCpuDotProduct = 1u << 7,  ///< sdot (ARMv8.2 option; Cortex-A76)
  kCpuInt8Matrix = 1u << 8,  ///< smmla (ARMv8.2 option; Neoverse V1, Cortex-A510 and later)
  kCpuAmxBf16 = 1u << 9,     ///< AMX tiles that multiply bf16 (Sapphire Rapids and later), with the operating system's consent
  kCpuNever = 1u << 31,    ///< no CPU has it
};

/// Features of this machine, detected once (x86: CPUID, and the operating system's consent to wide
/// registers; ARM: what the kernel reports).
uint32_t cpu_features();

}  // namespace shoehorn
