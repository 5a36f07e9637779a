// Q4_0: 32 weights of 4 bits, w = d * (q - 8).
#pragma once

#include "quant/unpacked.h"

namespace shoehorn::quant::q4_0 {

inline constexpr size_t kBlockSize = 32;

struct __attribute__((packed)) Block {
  uint16_t d;      ///< binary16 scale
  uint8_t qs[16];  ///< low nibbles: weights 0..15, high nibbles: 16..31
};
static_assert(sizeof(Block) == 18);

SHOEHORN_INLINE void unpack(const Block& __restrict block, Unpacked& __restrict out) {
  const Bytes nibbles = load_bytes(block.qs);
  store_bytes(out.q, (nibbles & 15) - 8);
  store_bytes(out.q + 16, (nibbles >> 4) - 8);
  const float d = fp16_to_fp32(block.d);
  for (size_t g = 0; g < 2; ++g) {
    out.scale[g] = d;
    out.min[g] = 0.0f;
  }
}

}  // namespace shoehorn::quant::q4_0
