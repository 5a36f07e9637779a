#include "compress/calibrate/allocation.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "base/memory.h"

namespace shoehorn::compress {

Expected<std::vector<size_t>> cheapest_choices(const std::vector<std::vector<TypeChoice>>& items, uint64_t budget) {
  // Counted from the smallest choice of each.
  uint64_t least = 0, divisor = 0;
  std::vector<uint64_t> smallest;
  for (const auto& choices : items) {
    const auto at = std::ranges::min_element(choices, {}, &TypeChoice::bytes);
    smallest.push_back(at->bytes);
    least += at->bytes;
    for (const TypeChoice& choice : choices) divisor = std::gcd(divisor, choice.bytes - at->bytes);
  }
  if (least > budget) {
    return fail(ErrorCode::kTooLarge, "nothing fits {} bytes: the smallest types take {} ({})", budget, least,
                format_bytes(least));
  }
  const uint64_t room = budget - least, unit = std::max({divisor, room >> 18, uint64_t{1}});
  const size_t n = room / unit + 1;

  // cost[u]: the least of the items so far in at most u units.
  std::vector<double> cost(n, 0.0), next(n);
  std::vector<std::vector<uint8_t>> chosen;
  const auto units = [&](size_t item, const TypeChoice& choice) {
    return (choice.bytes - smallest[item] + unit - 1) / unit;
  };
  for (size_t item = 0; item < items.size(); ++item) {
    std::ranges::fill(next, std::numeric_limits<double>::infinity());
    auto& choice_at = chosen.emplace_back(n);
    for (size_t c = 0; c < items[item].size(); ++c) {
      const uint64_t taken = units(item, items[item][c]);
      for (size_t u = taken; u < n; ++u) {
        const double sum = cost[u - taken] + items[item][c].cost;
        if (sum < next[u]) {
          next[u] = sum;
          choice_at[u] = static_cast<uint8_t>(c);
        }
      }
    }
    std::swap(cost, next);
  }
  std::vector<size_t> out(items.size());
  size_t left = n - 1;
  for (size_t item = items.size(); item-- > 0;) {
    out[item] = chosen[item][left];
    left -= units(item, items[item][out[item]]);
  }
  return out;
}

}  // namespace shoehorn::compress
