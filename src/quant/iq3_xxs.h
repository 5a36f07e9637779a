// IQ3_XXS: 256 weights in 8 sub-blocks, four weights an entry of a codebook of 256, seven sign bits for eight weights,
// w = d * (2 * scale + 1) / 4 * q with 4-bit scales.
#pragma once

#include "quant/codebooks.h"
#include "quant/unpacked.h"

namespace shoehorn::quant::iq3_xxs {

inline constexpr size_t kBlockSize = 256;

struct __attribute__((packed)) Block {
  uint16_t d;      ///< binary16 scale
  uint8_t qs[64];  ///< entry of the weights from 4 i on
  uint32_t
      signs_and_scale[8];  ///< per sub-block 7 sign bits of each eight weights, then the scale in the top four bits
};
static_assert(sizeof(Block) == 98);

SHOEHORN_INLINE void unpack(const Block& __restrict block, Unpacked& __restrict out) {
  const float d = fp16_to_fp32(block.d);
  for (size_t s = 0; s < 8; ++s) {
    const uint32_t packed = block.signs_and_scale[s];
    for (size_t i = 0; i < 4; ++i) {
      const uint8_t* entry = block.qs + 8 * s + 2 * i;
      const uint64_t q = joined(kIq3XxsCodebook.q[entry[0]], kIq3XxsCodebook.q[entry[1]]);
      store_eight(out.q + 32 * s + 8 * i, with_signs(q, with_even_parity(packed >> (7 * i))));
    }
    out.scale[2 * s] = out.scale[2 * s + 1] = d * static_cast<float>(2 * (packed >> 28) + 1) * 0.25f;
    out.min[2 * s] = out.min[2 * s + 1] = 0.0f;
  }
}

}  // namespace shoehorn::quant::iq3_xxs
