// Q2_K: 256 weights of 2 bits in 16 sub-blocks, w = d * scale * q - dmin * min with 4-bit scales and mins.
#pragma once

#include "quant/unpacked.h"

namespace shoehorn::quant::q2_k {

inline constexpr size_t kBlockSize = 256;

struct __attribute__((packed)) Block {
  uint8_t scales[16];  ///< per 16 weights: scale in the low nibble, min in the high
  uint8_t qs[64];      ///< byte 32 h + i holds weights 128 h + 32 k + i at bits 2 k
  uint16_t d;          ///< binary16 scale of the scales
  uint16_t dmin;       ///< binary16 scale of the mins
};
static_assert(sizeof(Block) == 84);

SHOEHORN_INLINE void unpack(const Block& __restrict block, Unpacked& __restrict out) {
  for (size_t half = 0; half < 2; ++half) {
    const uint8_t* qs = block.qs + 32 * half;
    int8_t* q = out.q + 128 * half;
    for (size_t i = 0; i < 32; ++i) {
      q[i] = static_cast<int8_t>(qs[i] & 3);
      q[32 + i] = static_cast<int8_t>((qs[i] >> 2) & 3);
      q[64 + i] = static_cast<int8_t>((qs[i] >> 4) & 3);
      q[96 + i] = static_cast<int8_t>(qs[i] >> 6);
    }
  }
  const float d = fp16_to_fp32(block.d);
  const float dmin = fp16_to_fp32(block.dmin);
  for (size_t g = 0; g < 16; ++g) {
    out.scale[g] = d * static_cast<float>(block.scales[g] & 15);
    out.min[g] = dmin * static_cast<float>(block.scales[g] >> 4);
  }
}

}  // namespace shoehorn::quant::q2_k
