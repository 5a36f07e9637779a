#include "eval/statistics.h"

#include <algorithm>
#include <cmath>

namespace shoehorn::eval {

Interval wilson_interval(uint64_t successes, uint64_t n, double z) {
  if (n == 0) return {0, 1};
  const auto count = static_cast<double>(n);
  const double p = static_cast<double>(successes) / count, z2 = z * z;
  const double center = (p + z2 / (2 * count)) / (1 + z2 / count);
  const double half = z / (1 + z2 / count) * std::sqrt(p * (1 - p) / count + z2 / (4 * count * count));
  return {std::max(0.0, center - half), std::min(1.0, center + half)};
}

Interval paired_proportion_interval(uint64_t only_a, uint64_t only_b, uint64_t n, double z) {
  const double total = static_cast<double>(n) + 2;
  const double a = (static_cast<double>(only_a) + 0.5) / total, b = (static_cast<double>(only_b) + 0.5) / total;
  const double half = z * std::sqrt((a + b - (a - b) * (a - b)) / total);
  return {std::max(-1.0, a - b - half), std::min(1.0, a - b + half)};
}

double mcnemar_exact(uint64_t only_a, uint64_t only_b) {
  const uint64_t n = only_a + only_b, k = std::min(only_a, only_b);
  if (2 * k >= n) return 1;
  // Terms of the binomial distribution relative to the last one, which is the largest: C(n, i) = C(n, i + 1) (i + 1) /
  // (n - i).
  double term = 1, sum = 0;
  for (uint64_t i = k;; --i) {
    sum += term;
    if (i == 0) break;
    term *= static_cast<double>(i) / static_cast<double>(n - i + 1);
  }
  const auto log_choose = std::lgamma(static_cast<double>(n) + 1) - std::lgamma(static_cast<double>(k) + 1) -
                          std::lgamma(static_cast<double>(n - k) + 1);
  return std::min(1.0, 2 * sum * std::exp(log_choose - static_cast<double>(n) * std::log(2.0)));
}

const std::vector<uint32_t>& Resampler::draw() {
  counts_.assign(n_, 0);
  for (size_t i = 0; i < n_; ++i) {
    // The high half of a product is uniform to 2^-64 n; std::uniform_int_distribution differs between libraries.
    const auto product = static_cast<unsigned __int128>(random_()) * n_;
    ++counts_[static_cast<size_t>(product >> 64)];
  }
  return counts_;
}

Interval percentile_interval(std::vector<double>& values) {
  std::sort(values.begin(), values.end());
  const auto quantile = [&](double share) {
    const double at = share * static_cast<double>(values.size() - 1);
    const auto below = static_cast<size_t>(at);
    const size_t above = std::min(below + 1, values.size() - 1);
    return values[below] + (at - static_cast<double>(below)) * (values[above] - values[below]);
  };
  return {quantile(0.025), quantile(0.975)};
}

}  // namespace shoehorn::eval
