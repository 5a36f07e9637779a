// TQ1_0, whose five trits a byte need neither shifts nor masks but multiplications: the same code for every instruction set.
#pragma once

#include "kernels/simd/vector.h"
#include "quant/tq1_0.h"

namespace shoehorn::kernels {
namespace {

/// The first trit of fractions of 256 (layout: quant/tq1_0.h): 3 f / 256 = (f + f / 2) / 2 / 64, all rounded down. average() rounds
/// up, so it is given complements.
SHOEHORN_INLINE U8 first_trit(U8 f) {
  const U8 not_half = average(~f, ~U8{}), not_three_quarters = average(~f, not_half);
  return ((U8)((U16)not_three_quarters >> 6) & 3) ^ 3;
}

/// Codes 0..2, w = d * (code - 1).
SHOEHORN_INLINE void unpack(const quant::tq1_0::Block* b, Codes& c) {
  quant::Bytes part[kSuper / 16];  // fractions in the order of the weights
  const auto five = [&](const uint8_t* from, size_t first, size_t step) SHOEHORN_LAMBDA {
    quant::Bytes f = load<quant::Bytes>(from);
    unroll<5>([&](auto k) SHOEHORN_LAMBDA {
      part[first + step * k] = f;
      f += f + f;  // times 3, modulo 256: the next trit comes first
    });
  };
  five(b->qs, 0, 2);
  five(b->qs + 16, 1, 2);
  five(b->qs + 32, 10, 1);
  const uint32_t last = load<uint32_t>(b->qh);
  typedef uint32_t Quads __attribute__((vector_size(16)));
  constexpr quant::Bytes kPow3 = {1, 1, 1, 1, 3, 3, 3, 3, 9, 9, 9, 9, 27, 27, 27, 27};
  part[15] = (quant::Bytes)(Quads{} + last) * kPow3;
  unroll<kCodeVectors>([&](auto i) SHOEHORN_LAMBDA { c.q[i] = first_trit(join(part + i * (kBytes / 16))); });
  const F32 d = splat(fp16_to_fp32(b->d));
  unroll<kGroupVectors>([&](auto i) SHOEHORN_LAMBDA { c.scale[i] = c.min[i] = d; });
}

}  // namespace
}  // namespace shoehorn::kernels
