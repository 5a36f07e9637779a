#include "quant/codebooks.h"

#include <algorithm>
#include <vector>

namespace shoehorn::quant {
namespace {

/// Looks the levels of every entry up.
template <class Integers, size_t n, size_t kLevels>
constexpr Codebook<n, Integers> expanded(const uint16_t (&levels)[n], const int (&values)[kLevels]) {
  constexpr size_t kBits = sizeof(Integers) == 8 ? 2 : 3;
  Codebook<n, Integers> codebook{};
  for (size_t e = 0; e < n; ++e) {
    codebook.levels[e] = levels[e];
    for (size_t i = 0; i < sizeof(Integers); ++i) {
      const auto value = static_cast<uint8_t>(values[(levels[e] >> (kBits * i)) & ((1 << kBits) - 1)]);
      codebook.q[e] |= static_cast<Integers>(value) << (8 * i);
    }
  }
  return codebook;
}

constexpr uint16_t kIq2Xxs[] = {
#include "quant/iq2_xxs_codebook.inc"
};
constexpr uint16_t kIq2Xs[] = {
#include "quant/iq2_xs_codebook.inc"
};
constexpr uint16_t kIq2S[] = {
#include "quant/iq2_s_codebook.inc"
};
constexpr uint16_t kIq3Xxs[] = {
#include "quant/iq3_xxs_codebook.inc"
};
constexpr uint16_t kIq3S[] = {
#include "quant/iq3_s_codebook.inc"
};
constexpr uint16_t kIq1[] = {
#include "quant/iq1_codebook.inc"
};

template <class Integers, size_t n, size_t kLevels>
std::vector<uint32_t> near_entries(const Codebook<n, Integers>& codebook, const int (&values)[kLevels]) {
  constexpr size_t kDims = sizeof(Integers), kBits = kDims == 8 ? 2 : 3;
  size_t n_ways = 1;
  for (size_t i = 0; i < kDims; ++i) n_ways *= kLevels;
  std::vector<uint32_t> near(n_ways * kNearEntries);
  std::vector<uint32_t> ranked(n);
  for (size_t way = 0; way < n_ways; ++way) {
    uint32_t squares[kDims][1 << kBits] = {};
    for (size_t i = 0, digits = way; i < kDims; ++i, digits /= kLevels) {
      for (size_t l = 0; l < kLevels; ++l) {
        const int difference = values[l] - values[digits % kLevels];
        squares[i][l] = static_cast<uint32_t>(difference * difference);
      }
    }
    for (size_t e = 0; e < n; ++e) {
      uint32_t distance = 0;
      for (size_t i = 0; i < kDims; ++i)
        distance += squares[i][(codebook.levels[e] >> (kBits * i)) & ((1 << kBits) - 1)];
      ranked[e] = distance << 11 | static_cast<uint32_t>(e);  // of equal ones the first
    }
    std::partial_sort(ranked.begin(), ranked.begin() + kNearEntries, ranked.end());
    for (size_t k = 0; k < kNearEntries; ++k) {
      const uint32_t e = ranked[k] & 2047;
      near[way * kNearEntries + k] = codebook.levels[e] | e << 16;
    }
  }
  return near;
}

}  // namespace

constinit const Codebook<256, Codebook8> kIq2XxsCodebook = expanded<Codebook8>(kIq2Xxs, kIq2Levels);
constinit const Codebook<512, Codebook8> kIq2XsCodebook = expanded<Codebook8>(kIq2Xs, kIq2Levels);
constinit const Codebook<1024, Codebook8> kIq2SCodebook = expanded<Codebook8>(kIq2S, kIq2Levels);
constinit const Codebook<256, Codebook4> kIq3XxsCodebook = expanded<Codebook4>(kIq3Xxs, kIq3XxsLevels);
constinit const Codebook<512, Codebook4> kIq3SCodebook = expanded<Codebook4>(kIq3S, kIq3SLevels);
constinit const Codebook<2048, Codebook8> kIq1Codebook = expanded<Codebook8>(kIq1, kIq1Levels);

#define SHOEHORN_NEAR(function, codebook, levels)                             \
  const uint32_t* function() {                                                \
    static const std::vector<uint32_t> near = near_entries(codebook, levels); \
    return near.data();                                                       \
  }
SHOEHORN_NEAR(near_iq2_xxs, kIq2XxsCodebook, kIq2Levels)
SHOEHORN_NEAR(near_iq2_xs, kIq2XsCodebook, kIq2Levels)
SHOEHORN_NEAR(near_iq2_s, kIq2SCodebook, kIq2Levels)
SHOEHORN_NEAR(near_iq3_xxs, kIq3XxsCodebook, kIq3XxsLevels)
SHOEHORN_NEAR(near_iq3_s, kIq3SCodebook, kIq3SLevels)
SHOEHORN_NEAR(near_iq1, kIq1Codebook, kIq1Levels)
#undef SHOEHORN_NEAR

}  // namespace shoehorn::quant
