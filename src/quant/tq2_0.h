// TQ2_0: 256 ternary weights of 2 bits, w = d * (q - 1).
#pragma once

#include "quant/unpacked.h"

namespace shoehorn::quant::tq2_0 {

inline constexpr size_t kBlockSize = 256;

struct __attribute__((packed)) Block {
  uint8_t qs[64];  ///< byte 32 h + i holds weights 128 h + 32 k + i at bits 2 k
  uint16_t d;      ///< binary16 scale
};
static_assert(sizeof(Block) == 66);

SHOEHORN_INLINE void unpack(const Block& __restrict block, Unpacked& __restrict out) {
  for (size_t half = 0; half < 2; ++half) {
    const uint8_t* qs = block.qs + 32 * half;
    int8_t* q = out.q + 128 * half;
    for (size_t i = 0; i < 32; ++i) {
      q[i] = static_cast<int8_t>((qs[i] & 3) - 1);
      q[32 + i] = static_cast<int8_t>(((qs[i] >> 2) & 3) - 1);
      q[64 + i] = static_cast<int8_t>(((qs[i] >> 4) & 3) - 1);
      q[96 + i] = static_cast<int8_t>((qs[i] >> 6) - 1);
    }
  }
  const float d = fp16_to_fp32(block.d);
  for (size_t g = 0; g < 16; ++g) {
    out.scale[g] = d;
    out.min[g] = 0.0f;
  }
}

}  // namespace shoehorn::quant::tq2_0
