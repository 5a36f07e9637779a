// Q3_K: 256 weights of 3 bits in 16 sub-blocks, w = d * (scale - 32) * (q - 4) with 6-bit scales.
#pragma once

#include "quant/unpacked.h"

namespace shoehorn::quant::q3_k {

inline constexpr size_t kBlockSize = 256;

struct __attribute__((packed)) Block {
  uint8_t hmask[32];   ///< bit k of byte i: the third bit of weight 32 k + i
  uint8_t qs[64];      ///< byte 32 h + i holds the low two bits of weights 128 h + 32 k + i at bits 2 k
  uint8_t scales[12];  ///< bytes 0..7: low nibbles of scales 0..7 | 8..15; bytes 8..11: their high two bits, scale 4 k
                       ///< + i in byte 8 + i at bits 2 k
  uint16_t d;          ///< binary16 scale of the scales
};
static_assert(sizeof(Block) == 110);

SHOEHORN_INLINE void unpack(const Block& __restrict block, Unpacked& __restrict out) {
  for (size_t half = 0; half < 2; ++half) {
    const uint8_t* qs = block.qs + 32 * half;
    int8_t* q = out.q + 128 * half;
    for (size_t i = 0; i < 32; ++i) {
      const uint8_t high = static_cast<uint8_t>(block.hmask[i] >> (4 * half));
      q[i] = static_cast<int8_t>(((qs[i] & 3) | ((high << 2) & 4)) - 4);
      q[32 + i] = static_cast<int8_t>((((qs[i] >> 2) & 3) | ((high << 1) & 4)) - 4);
      q[64 + i] = static_cast<int8_t>((((qs[i] >> 4) & 3) | (high & 4)) - 4);
      q[96 + i] = static_cast<int8_t>(((qs[i] >> 6) | ((high >> 1) & 4)) - 4);
    }
  }
  const float d = fp16_to_fp32(block.d);
  for (size_t i = 0; i < 4; ++i) {
    const uint8_t high = block.scales[8 + i];
    out.scale[i] = d * static_cast<float>(((block.scales[i] & 15) | ((high << 4) & 48)) - 32);
    out.scale[4 + i] = d * static_cast<float>(((block.scales[4 + i] & 15) | ((high << 2) & 48)) - 32);
    out.scale[8 + i] = d * static_cast<float>(((block.scales[i] >> 4) | (high & 48)) - 32);
    out.scale[12 + i] = d * static_cast<float>(((block.scales[4 + i] >> 4) | ((high >> 2) & 48)) - 32);
  }
  for (size_t g = 0; g < 16; ++g) out.min[g] = 0.0f;
}

}  // namespace shoehorn::quant::q3_k
