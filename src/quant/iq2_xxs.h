// IQ2_XXS: 256 weights in 8 sub-blocks, eight weights an entry of a codebook of 256 with seven sign bits,
// w = d * (2 * scale + 1) / 8 * q with 4-bit scales.
#pragma once

#include "quant/codebooks.h"
#include "quant/unpacked.h"

namespace shoehorn::quant::iq2_xxs {

inline constexpr size_t kBlockSize = 256;

struct __attribute__((packed)) Block {
  uint16_t d;  ///< binary16 scale
  struct __attribute__((packed)) {
    uint8_t index[4];          ///< entries of eight weights each
    uint32_t signs_and_scale;  ///< 7 sign bits of each entry, then the scale in the top four bits
  } sub[8];
};
static_assert(sizeof(Block) == 66);

SHOEHORN_INLINE void unpack(const Block& __restrict block, Unpacked& __restrict out) {
  const float d = fp16_to_fp32(block.d);
  for (size_t s = 0; s < 8; ++s) {
    const uint32_t packed = block.sub[s].signs_and_scale;
    for (size_t i = 0; i < 4; ++i) {
      store_eight(out.q + 32 * s + 8 * i,
                  with_signs(kIq2XxsCodebook.q[block.sub[s].index[i]], with_even_parity(packed >> (7 * i))));
    }
    out.scale[2 * s] = out.scale[2 * s + 1] = d * static_cast<float>(2 * (packed >> 28) + 1) * 0.125f;
    out.min[2 * s] = out.min[2 * s + 1] = 0.0f;
  }
}

}  // namespace shoehorn::quant::iq2_xxs
