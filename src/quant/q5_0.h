// Q5_0: 32 weights of 5 bits, w = d * (q - 16).
#pragma once

#include "quant/high_bits.h"
#include "quant/unpacked.h"

namespace shoehorn::quant::q5_0 {

inline constexpr size_t kBlockSize = 32;

struct __attribute__((packed)) Block {
  uint16_t d;      ///< binary16 scale
  uint8_t qh[4];   ///< bit i: the fifth bit of weight i
  uint8_t qs[16];  ///< low nibbles: weights 0..15, high nibbles: 16..31
};
static_assert(sizeof(Block) == 22);

SHOEHORN_INLINE void unpack(const Block& __restrict block, Unpacked& __restrict out) {
  uint8_t fifth[32];
  spread_fifth_bits(block.qh, fifth);
  const Bytes nibbles = load_bytes(block.qs);
  store_bytes(out.q, ((nibbles & 15) | load_bytes(fifth)) - 16);
  store_bytes(out.q + 16, ((nibbles >> 4) | load_bytes(fifth + 16)) - 16);
  const float d = fp16_to_fp32(block.d);
  for (size_t g = 0; g < 2; ++g) {
    out.scale[g] = d;
    out.min[g] = 0.0f;
  }
}

}  // namespace shoehorn::quant::q5_0
