// Indices, signs and scales of the codebook formats (quant/codebooks.h), a few at a time in general registers.
#pragma once

#include <cstdint>

#include "quant/all_formats.h"

namespace shoehorn::kernels {
namespace {

/// Seven bits to a byte, 28 from the low bits of either word.
SHOEHORN_INLINE uint64_t spread_sevens(uint32_t first, uint32_t second) {
  uint64_t u = (first & 0x0fffffffu) | static_cast<uint64_t>(second & 0x0fffffffu) << 32;
  u = (u & 0x00003fff00003fffull) | (u & 0x0fffc0000fffc000ull) << 2;
  return (u & 0x007f007f007f007full) | (u & 0x3f803f803f803f80ull) << 1;
}

/// Eight sign bits of seven in each byte: an even number of them is set.
SHOEHORN_INLINE uint64_t with_even_parity(uint64_t seven) {
  uint64_t parity = seven ^ seven >> 4;
  parity ^= parity >> 2;
  parity ^= parity >> 1;
  return seven | (parity & 0x0101010101010101ull) << 7;
}

/// Entry of the weights from 8 i on of IQ2_S.
SHOEHORN_INLINE uint64_t entry_of(const quant::iq2_s::Block* b, size_t i) {
  return quant::kIq2SCodebook.q[b->qs[i] | static_cast<size_t>((b->qh[i / 4] >> (2 * (i % 4))) & 3) << 8];
}

SHOEHORN_INLINE uint64_t entry_of(const quant::iq2_xs::Block* b, size_t i) {
  return quant::kIq2XsCodebook.q[b->qs[i] & 511];
}

SHOEHORN_INLINE uint64_t entry_of(const quant::iq2_xxs::Block* b, size_t i) {
  return quant::kIq2XxsCodebook.q[b->sub[i / 4].index[i % 4]];
}

/// Two entries: the weights from 8 i on.
SHOEHORN_INLINE uint64_t entry_of(const quant::iq3_xxs::Block* b, size_t i) {
  return quant::joined(quant::kIq3XxsCodebook.q[b->qs[2 * i]], quant::kIq3XxsCodebook.q[b->qs[2 * i + 1]]);
}

SHOEHORN_INLINE uint64_t entry_of(const quant::iq3_s::Block* b, size_t i) {
  const size_t high = b->qh[i / 4] >> (2 * (i % 4));
  return quant::joined(quant::kIq3SCodebook.q[b->qs[2 * i] | (high & 1) << 8],
                       quant::kIq3SCodebook.q[b->qs[2 * i + 1] | (high & 2) << 7]);
}

SHOEHORN_INLINE uint64_t entry_of(const quant::iq1_s::Block* b, size_t i) {
  return quant::kIq1Codebook.q[b->qs[i] | static_cast<size_t>((b->qh[i / 4] >> (3 * (i % 4))) & 7) << 8];
}

SHOEHORN_INLINE uint64_t entry_of(const quant::iq1_m::Block* b, size_t i) {
  return quant::kIq1Codebook.q[b->qs[i] | static_cast<size_t>((b->qh[i / 2] >> (4 * (i % 2))) & 7) << 8];
}

/// The signs of the weights from 64 i on, a bit each.
SHOEHORN_INLINE uint64_t signs_of(const quant::iq2_s::Block* b, size_t i) {
  uint64_t signs;
  __builtin_memcpy(&signs, b->signs + 8 * i, sizeof signs);
  return signs;
}

SHOEHORN_INLINE uint64_t signs_of(const quant::iq3_s::Block* b, size_t i) {
  uint64_t signs;
  __builtin_memcpy(&signs, b->signs + 8 * i, sizeof signs);
  return signs;
}

SHOEHORN_INLINE uint64_t signs_of(const quant::iq2_xs::Block* b, size_t i) {
  // The high bytes of the words, halved.
  uint64_t first, second;
  __builtin_memcpy(&first, b->qs + 8 * i, sizeof first);
  __builtin_memcpy(&second, b->qs + 8 * i + 4, sizeof second);
  const auto packed = [](uint64_t u) {
    u = (u >> 9) & 0x007f007f007f007full;
    u = (u | u >> 8) & 0x0000ffff0000ffffull;
    return (u | u >> 16) & 0x00000000ffffffffull;
  };
  return with_even_parity(packed(first) | packed(second) << 32);
}

SHOEHORN_INLINE uint64_t signs_of(const quant::iq2_xxs::Block* b, size_t i) {
  return with_even_parity(spread_sevens(b->sub[2 * i].signs_and_scale, b->sub[2 * i + 1].signs_and_scale));
}

SHOEHORN_INLINE uint64_t signs_of(const quant::iq3_xxs::Block* b, size_t i) {
  return with_even_parity(spread_sevens(b->signs_and_scale[2 * i], b->signs_and_scale[2 * i + 1]));
}

/// The exponents of eight blocks of MXFP4, a byte each. 2^(e - 128) is a float of exponent bits e - 1; kernels take the
/// two that would be subnormal for zero.
SHOEHORN_INLINE uint64_t exponents(const quant::mxfp4::Block* b) {
  uint64_t e = 0;
  for (size_t i = 0; i < 8; ++i) e |= static_cast<uint64_t>(b[i].e) << (8 * i);
  return e;
}

}  // namespace
}  // namespace shoehorn::kernels
