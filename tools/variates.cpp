#include "variates.h"

#include <cmath>

namespace shoehorn::tools {

std::vector<float> normal_quantiles() {
  std::vector<float> out(kQuantiles);
  for (size_t i = 0; i < kQuantiles / 2; ++i) {
    const double p = (static_cast<double>(i) + 0.5) / kQuantiles;
    double low = -6, high = 0;
    for (int step = 0; step < 40; ++step) {
      const double middle = (low + high) / 2;
      (0.5 * std::erfc(-middle / std::sqrt(2.0)) < p ? low : high) = middle;
    }
    out[i] = static_cast<float>(low);
    out[kQuantiles - 1 - i] = -out[i];
  }
  return out;
}

uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

}  // namespace shoehorn::tools
