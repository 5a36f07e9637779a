// Random numbers that depend on a counter alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace shoehorn::tools {

inline constexpr size_t kQuantiles = 65536;

/// Quantiles of the normal distribution at (i + 1/2) / 65536: 16 random bits pick a normal variate.
std::vector<float> normal_quantiles();

/// The finalizer of SplitMix64 (Steele, Lea, Flood 2014): a counter in, 64 random bits out.
uint64_t mix(uint64_t x);

}  // namespace shoehorn::tools
