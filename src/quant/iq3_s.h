// IQ3_S: 256 weights in 8 sub-blocks, four weights an entry of a codebook of 512 with four sign bits,
// w = d * (2 * scale + 1) * q with 4-bit scales.
#pragma once

#include "quant/codebooks.h"
#include "quant/unpacked.h"

namespace shoehorn::quant::iq3_s {

inline constexpr size_t kBlockSize = 256;

struct __attribute__((packed)) Block {
  uint16_t d;         ///< binary16 scale
  uint8_t qs[64];     ///< low eight bits of the entry of the weights from 4 i on
  uint8_t qh[8];      ///< ninth bit of entry i: bit i % 8 of byte i / 8
  uint8_t signs[32];  ///< of weight i: bit i % 8 of byte i / 8
  uint8_t scales[4];  ///< scale 2 i in the low nibble, 2 i + 1 in the high
};
static_assert(sizeof(Block) == 110);

SHOEHORN_INLINE void unpack(const Block& __restrict block, Unpacked& __restrict out) {
  const auto entry = [&](size_t i) { return block.qs[i] | static_cast<size_t>((block.qh[i / 8] >> (i % 8)) & 1) << 8; };
  for (size_t i = 0; i < 32; ++i) {
    const uint64_t q = joined(kIq3SCodebook.q[entry(2 * i)], kIq3SCodebook.q[entry(2 * i + 1)]);
    store_eight(out.q + 8 * i, with_signs(q, block.signs[i]));
  }
  const float d = fp16_to_fp32(block.d);
  for (size_t s = 0; s < 8; ++s) {
    const int scale = (block.scales[s / 2] >> (4 * (s % 2))) & 15;
    out.scale[2 * s] = out.scale[2 * s + 1] = d * static_cast<float>(2 * scale + 1);
    out.min[2 * s] = out.min[2 * s + 1] = 0.0f;
  }
}

}  // namespace shoehorn::quant::iq3_s
