// IEEE binary16 and bfloat16 <-> float. `static inline` on purpose: ISA-specific files include this header and must not
// export a symbol that code for another CPU could pick up.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

#define SHOEHORN_INLINE static inline __attribute__((always_inline, unused))

namespace shoehorn {

/// binary16 bits -> float, exact. Branch-free (the compiler vectorizes it): normals are rebased by a multiply, subnormals
/// come out of the same multiply, Inf/NaN get their exponent back.
SHOEHORN_INLINE float fp16_to_fp32(uint16_t h) {
#if defined(__F16C__) && defined(__AVX__)
  return static_cast<float>(std::bit_cast<_Float16>(h));
#elif defined(__aarch64__)
  return static_cast<float>(std::bit_cast<__fp16>(h));
#else
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16;
  const uint32_t magnitude = static_cast<uint32_t>(h & 0x7fffu) << 13;
  const uint32_t special = magnitude >= 0x0f800000u ? 0x7f800000u : 0u;
  const float rebased = std::bit_cast<float>(magnitude) * 0x1.0p112f;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(rebased) | special | sign);
#endif
}

/// float -> binary16 bits, round to nearest even, overflow to Inf, NaN stays NaN.
SHOEHORN_INLINE uint16_t fp32_to_fp16(float f) {
  const uint32_t bits = std::bit_cast<uint32_t>(f);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u);
  if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);
  if (magnitude < 0x38800000u) {  // subnormal: the float adder does the rounding at the right bit
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3f000000u));
  }
  const uint32_t rounded = magnitude + 0x0fffu + ((magnitude >> 13) & 1u);
  return static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
}

/// bfloat16 bits -> float, exact.
SHOEHORN_INLINE float bf16_to_fp32(uint16_t h) { return std::bit_cast<float>(static_cast<uint32_t>(h) << 16); }

/// float -> bfloat16 bits, round to nearest even, NaN stays (quiet) NaN.
SHOEHORN_INLINE uint16_t fp32_to_bf16(float f) {
  const uint32_t bits = std::bit_cast<uint32_t>(f);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x0040u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

}  // namespace shoehorn
