// IQ4_NL: 32 weights of 4 bits, w = d * level[q] with the levels of iq4_codebook.h.
#pragma once

#include "quant/iq4_codebook.h"
#include "quant/unpacked.h"

namespace shoehorn::quant::iq4_nl {

inline constexpr size_t kBlockSize = 32;

struct __attribute__((packed)) Block {
  uint16_t d;      ///< binary16 scale
  uint8_t qs[16];  ///< low nibbles: weights 0..15, high nibbles: 16..31
};
static_assert(sizeof(Block) == 18);

SHOEHORN_INLINE void unpack(const Block& __restrict block, Unpacked& __restrict out) {
  look_up_iq4(block.qs, out.q);
  const float d = fp16_to_fp32(block.d);
  for (size_t g = 0; g < 2; ++g) {
    out.scale[g] = d;
    out.min[g] = 0.0f;
  }
}

}  // namespace shoehorn::quant::iq4_nl
