// Which width each layer gets.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "base/status.h"

namespace shoehorn::compress {

/// What a width of a layer costs.
struct WidthCost {
  int layer;
  int64_t width;
  int branch;     ///< where its cost is measured; -1: the whole width, which costs nothing
  double cost;
};

/// One width per layer, of sum `total` or less but no less than can be helped, with the least sum of costs. Exact (dynamic
/// programming over the totals that can be reached).
Expected<std::map<int, int64_t>> cheapest_widths(const std::vector<WidthCost>& costs, int64_t total);

}  // namespace shoehorn::compress
