// The packed integer scales of the superblock formats, a few at a time in general registers.
#pragma once

#include <cstdint>
#include <cstring>

#include "base/float16.h"

namespace shoehorn::kernels {
namespace {

/// Eight scales and eight mins, a byte each.
struct KScales {
  uint64_t scale, min;
};

/// Layout: quant/k_scales.h.
SHOEHORN_INLINE KScales unpack_k_scales(const uint8_t packed[12]) {
  uint32_t u[3];
  __builtin_memcpy(u, packed, 12);
  const uint32_t scale_low = u[0] & 0x3f3f3f3f, scale_high = (u[2] & 0x0f0f0f0f) | ((u[0] >> 2) & 0x30303030);
  const uint32_t min_low = u[1] & 0x3f3f3f3f, min_high = ((u[2] >> 4) & 0x0f0f0f0f) | ((u[1] >> 2) & 0x30303030);
  return {scale_low | static_cast<uint64_t>(scale_high) << 32, min_low | static_cast<uint64_t>(min_high) << 32};
}

/// Sixteen 6-bit scales, a byte each.
struct Q3Scales {
  uint64_t low, high;
};

/// Layout: quant/q3_k.h.
SHOEHORN_INLINE Q3Scales unpack_q3_scales(const uint8_t packed[12]) {
  uint64_t nibbles;
  uint32_t pairs;
  __builtin_memcpy(&nibbles, packed, 8);
  __builtin_memcpy(&pairs, packed + 8, 4);
  const uint64_t low_pairs = (pairs & 0x03030303) | static_cast<uint64_t>((pairs >> 2) & 0x03030303) << 32;
  const uint64_t high_pairs = ((pairs >> 4) & 0x03030303) | static_cast<uint64_t>((pairs >> 6) & 0x03030303) << 32;
  return {(nibbles & 0x0f0f0f0f0f0f0f0full) | low_pairs << 4, ((nibbles >> 4) & 0x0f0f0f0f0f0f0f0full) | high_pairs << 4};
}

/// Eight 6-bit scales of IQ4_XS, a byte each. Layout: quant/iq4_xs.h.
SHOEHORN_INLINE uint64_t unpack_iq4_scales(const uint8_t low[4], uint16_t high) {
  uint32_t l;
  __builtin_memcpy(&l, low, 4);
  // Spread the 4-bit fields to bytes, and the 2-bit fields: halve the distance of what is left, step by step.
  uint64_t nibbles = l;
  nibbles = (nibbles | nibbles << 16) & 0x0000ffff0000ffffull;
  nibbles = (nibbles | nibbles << 8) & 0x00ff00ff00ff00ffull;
  nibbles = (nibbles | nibbles << 4) & 0x0f0f0f0f0f0f0f0full;
  uint64_t pairs = high;
  pairs = (pairs | pairs << 24) & 0x000000ff000000ffull;
  pairs = (pairs | pairs << 12) & 0x000f000f000f000full;
  pairs = (pairs | pairs << 6) & 0x0303030303030303ull;
  return nibbles | pairs << 4;
}

}  // namespace
}  // namespace shoehorn::kernels
