// TQ1_0: 256 ternary weights, five to a byte, w = d * (t - 1) with trits t.
#pragma once

#include "quant/unpacked.h"

namespace shoehorn::quant::tq1_0 {

inline constexpr size_t kBlockSize = 256;

/// A byte holds trits as the fraction ceil(256 * 0.t0 t1 t2 t3 t4 (base 3)): multiplying by 3^k mod 256 drops the first
/// k, and the top of a further multiplication by 3 is trit k.
struct __attribute__((packed)) Block {
  uint8_t qs[48];  ///< bytes 0..31: trit k of byte i is weight 32 k + i; bytes 32..47: trit k of byte 32 + i is weight
                   ///< 160 + 16 k + i
  uint8_t qh[4];   ///< four trits each: trit k of byte i is weight 240 + 4 k + i
  uint16_t d;      ///< binary16 scale
};
static_assert(sizeof(Block) == 54);

SHOEHORN_INLINE int8_t trit(uint8_t fraction) { return static_cast<int8_t>(((fraction * 3) >> 8) - 1); }

SHOEHORN_INLINE void unpack(const Block& __restrict block, Unpacked& __restrict out) {
  constexpr uint8_t kPow3[5] = {1, 3, 9, 27, 81};
  for (size_t k = 0; k < 5; ++k) {
    for (size_t i = 0; i < 32; ++i) out.q[32 * k + i] = trit(static_cast<uint8_t>(block.qs[i] * kPow3[k]));
  }
  for (size_t k = 0; k < 5; ++k) {
    for (size_t i = 0; i < 16; ++i) out.q[160 + 16 * k + i] = trit(static_cast<uint8_t>(block.qs[32 + i] * kPow3[k]));
  }
  for (size_t k = 0; k < 4; ++k) {
    for (size_t i = 0; i < 4; ++i) out.q[240 + 4 * k + i] = trit(static_cast<uint8_t>(block.qh[i] * kPow3[k]));
  }
  const float d = fp16_to_fp32(block.d);
  for (size_t g = 0; g < 16; ++g) {
    out.scale[g] = d;
    out.min[g] = 0.0f;
  }
}

}  // namespace shoehorn::quant::tq1_0
