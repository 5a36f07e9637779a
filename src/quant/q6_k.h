// Q6_K: 256 weights of 6 bits in 16 sub-blocks, w = d * scale * (q - 32) with signed 8-bit scales.
#pragma once

#include "quant/unpacked.h"

namespace shoehorn::quant::q6_k {

inline constexpr size_t kBlockSize = 256;

struct __attribute__((packed)) Block {
  uint8_t
      ql[128];  ///< low 4 bits; byte 64 h + i (i < 64): weight 128 h + i in the low nibble, 128 h + 64 + i in the high
  uint8_t qh[64];     ///< high 2 bits; byte 32 h + i holds those of weights 128 h + 32 k + i at bits 2 k
  int8_t scales[16];  ///< per 16 weights
  uint16_t d;         ///< binary16 scale of the scales
};
static_assert(sizeof(Block) == 210);

SHOEHORN_INLINE void unpack(const Block& __restrict block, Unpacked& __restrict out) {
  for (size_t half = 0; half < 2; ++half) {
    const uint8_t* ql = block.ql + 64 * half;
    const uint8_t* qh = block.qh + 32 * half;
    int8_t* q = out.q + 128 * half;
    for (size_t i = 0; i < 32; ++i) {
      q[i] = static_cast<int8_t>(((ql[i] & 15) | ((qh[i] << 4) & 48)) - 32);
      q[32 + i] = static_cast<int8_t>(((ql[32 + i] & 15) | ((qh[i] << 2) & 48)) - 32);
      q[64 + i] = static_cast<int8_t>(((ql[i] >> 4) | (qh[i] & 48)) - 32);
      q[96 + i] = static_cast<int8_t>(((ql[32 + i] >> 4) | ((qh[i] >> 2) & 48)) - 32);
    }
  }
  const float d = fp16_to_fp32(block.d);
  for (size_t g = 0; g < 16; ++g) {
    out.scale[g] = d * static_cast<float>(block.scales[g]);
    out.min[g] = 0.0f;
  }
}

}  // namespace shoehorn::quant::q6_k
