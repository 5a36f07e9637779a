// Q8_0: 32 weights of 8 bits, w = d * q.
#pragma once

#include "quant/unpacked.h"

namespace shoehorn::quant::q8_0 {

inline constexpr size_t kBlockSize = 32;

struct __attribute__((packed)) Block {
  uint16_t d;     ///< binary16 scale
  int8_t qs[32];  ///< in order
};
static_assert(sizeof(Block) == 34);

SHOEHORN_INLINE void unpack(const Block& __restrict block, Unpacked& __restrict out) {
  for (size_t i = 0; i < 32; ++i) out.q[i] = block.qs[i];
  const float d = fp16_to_fp32(block.d);
  for (size_t g = 0; g < 2; ++g) {
    out.scale[g] = d;
    out.min[g] = 0.0f;
  }
}

}  // namespace shoehorn::quant::q8_0
