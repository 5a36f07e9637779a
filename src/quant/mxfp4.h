// MXFP4: 32 weights of 4 bits, floats of one mantissa bit (E2M1) with a power of two as their scale, w = 2^(e - 128) *
// level[q] with the levels doubled to be whole. OCP Microscaling Formats (MX) Specification 1.0.
#pragma once

#include "quant/unpacked.h"

namespace shoehorn::quant::mxfp4 {

inline constexpr size_t kBlockSize = 32;

struct __attribute__((packed)) Block {
  uint8_t e;       ///< exponent of the scale
  uint8_t qs[16];  ///< low nibbles: weights 0..15, high nibbles: 16..31
};
static_assert(sizeof(Block) == 17);

/// Twice the value of each code.
alignas(16) static constexpr int8_t kLevels[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

/// 2^(e - 128); the first two are subnormal.
SHOEHORN_INLINE float scale_of(uint8_t e) {
  const uint32_t bits = e < 2 ? 0x00200000u << e : static_cast<uint32_t>(e - 1) << 23;
  float scale;
  __builtin_memcpy(&scale, &bits, sizeof scale);
  return scale;
}

SHOEHORN_INLINE void unpack(const Block& __restrict block, Unpacked& __restrict out) {
  for (size_t i = 0; i < 16; ++i) {
    out.q[i] = kLevels[block.qs[i] & 15];
    out.q[16 + i] = kLevels[block.qs[i] >> 4];
  }
  for (size_t g = 0; g < 2; ++g) {
    out.scale[g] = scale_of(block.e);
    out.min[g] = 0.0f;
  }
}

}  // namespace shoehorn::quant::mxfp4
