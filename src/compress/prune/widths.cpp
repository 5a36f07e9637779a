#include "compress/prune/widths.h"

namespace shoehorn::compress {

Expected<std::map<int, int64_t>> cheapest_widths(const std::vector<WidthCost>& costs, int64_t total) {
  std::map<int, std::vector<const WidthCost*>> by_layer;
  for (const WidthCost& cost : costs) by_layer[cost.layer].push_back(&cost);
  struct Best {
    double cost;
    const WidthCost* choice;
  };
  // For every sum of widths that the layers so far can have, the cheapest way there.
  std::vector<std::map<int64_t, Best>> stages = {{{0, {0, nullptr}}}};
  for (const auto& [layer, choices] : by_layer) {
    std::map<int64_t, Best> next;
    for (const auto& [sum, best] : stages.back()) {
      for (const WidthCost* choice : choices) {
        const int64_t reached = sum + choice->width;
        if (reached > total) continue;
        const double cost = best.cost + choice->cost;
        const auto found = next.find(reached);
        if (found == next.end() || cost < found->second.cost) next[reached] = {cost, choice};
      }
    }
    stages.push_back(std::move(next));
  }
  if (stages.back().empty()) return fail(ErrorCode::kInvalid, "no widths add up to {}", total);
  std::map<int, int64_t> out;
  int64_t sum = stages.back().rbegin()->first;
  for (size_t i = stages.size() - 1; i > 0; --i) {
    const WidthCost* choice = stages[i].at(sum).choice;
    out[choice->layer] = choice->width;
    sum -= choice->width;
  }
  return out;
}

}  // namespace shoehorn::compress
