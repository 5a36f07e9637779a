// The codebooks of the formats below four bits: a code is not of one weight but of eight (IQ2, IQ1) or four (IQ3), an
// index into a list of the combinations that occur. IQ2 and IQ3 list magnitudes, with signs kept apart; IQ1 lists
// signed values.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/float16.h"

namespace shoehorn::quant {

/// n entries of sizeof(Integers) numbers, each one of a few levels.
template <size_t n, class Integers>
struct Codebook {
  uint16_t levels[n];  ///< which level: bits from 2 i up of an entry of eight, from 3 i up of an entry of four
  Integers q[n];       ///< the levels themselves, a byte each, the first lowest
};

using Codebook8 = uint64_t;  ///< eight int8
using Codebook4 = uint32_t;  ///< four int8

inline constexpr int kIq2Levels[] = {8, 25, 43};
inline constexpr int kIq3XxsLevels[] = {4, 12, 20, 28, 36, 44, 52, 62};
inline constexpr int kIq3SLevels[] = {1, 3, 5, 7, 9, 11, 13, 15};
inline constexpr int kIq1Levels[] = {-8, 0, 8};  ///< in eighths: a delta of one eighth is added

extern const Codebook<256, Codebook8> kIq2XxsCodebook;
extern const Codebook<512, Codebook8> kIq2XsCodebook;
extern const Codebook<1024, Codebook8> kIq2SCodebook;
extern const Codebook<256, Codebook4> kIq3XxsCodebook;
extern const Codebook<512, Codebook4> kIq3SCodebook;
extern const Codebook<2048, Codebook8> kIq1Codebook;

/// For the encoders: of every way to round the weights of an entry each to a level, the entries nearest to that, found
/// at the first call. Row k of kNearEntries is of the levels that k has for digits, base the number of levels, the
/// first lowest. An entry is its levels, and its index from bit 16 up.
inline constexpr size_t kNearEntries = 16;
const uint32_t* near_iq2_xxs();
const uint32_t* near_iq2_xs();
const uint32_t* near_iq2_s();
const uint32_t* near_iq3_xxs();
const uint32_t* near_iq3_s();
const uint32_t* near_iq1();

/// Eight sign bits of the seven that are stored: an even number of them is set.
SHOEHORN_INLINE uint8_t with_even_parity(uint32_t seven) {
  seven &= 127;
  return static_cast<uint8_t>(seven | (static_cast<uint32_t>(__builtin_parity(seven)) << 7));
}

/// The bytes of q, none of them zero, negated where a bit of `signs` is set. As spread_fifth_bits (high_bits.h); a byte
/// and its complement cannot carry.
SHOEHORN_INLINE uint64_t with_signs(uint64_t q, uint8_t signs) {
  const uint64_t selected = (signs * 0x0101010101010101ull) & 0x8040201008040201ull;
  const uint64_t ones = ((selected + 0x7f7f7f7f7f7f7f7full) & 0x8080808080808080ull) >> 7;
  return (q ^ (ones * 255)) + ones;
}

/// Two entries of four as one of eight.
SHOEHORN_INLINE uint64_t joined(Codebook4 first, Codebook4 second) {
  return first | static_cast<uint64_t>(second) << 32;
}

SHOEHORN_INLINE void store_eight(int8_t* to, uint64_t q) { __builtin_memcpy(to, &q, sizeof q); }

}  // namespace shoehorn::quant
