// Which type each tensor gets when a file may have so many bytes.
#pragma once

#include <cstdint>
#include <vector>

#include "base/status.h"

namespace shoehorn::compress {

struct TypeChoice {
  uint64_t bytes;
  double cost;
};

/// One choice for each item, of at most `budget` bytes together, with the least sum of costs. Exact by dynamic
/// programming over bytes as long as their differences have a common divisor of budget / 2^18 or more, as those of a
/// model's tensors do; else sizes count as the next multiple of that, and the sum is near the least. Fails with
/// kTooLarge and the least bytes that would do when nothing fits.
Expected<std::vector<size_t>> cheapest_choices(const std::vector<std::vector<TypeChoice>>& items, uint64_t budget);

}  // namespace shoehorn::compress
