// How sure a figure over a sample of items is, and whether two models differ on the same items.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

namespace shoehorn::eval {

/// The 97.5 % point of the normal distribution: intervals cover 95 %.
inline constexpr double kZ95 = 1.959963984540054;

struct Interval {
  double low = 0, high = 0;
};

struct MeanDeviation {
  double mean = 0, deviation = 0;  ///< the sample's deviation (n - 1); 0 of a single value
};

/// Of at least one sample.
template <class T>
MeanDeviation mean_and_deviation(const std::vector<T>& samples) {
  const auto n = static_cast<double>(samples.size());
  double sum = 0, squares = 0;
  for (const T sample : samples) sum += static_cast<double>(sample);
  const double mean = sum / n;
  for (const T sample : samples) squares += (static_cast<double>(sample) - mean) * (static_cast<double>(sample) - mean);
  return {mean, samples.size() > 1 ? std::sqrt(squares / (n - 1)) : 0};
}

/// Wilson's score interval of a proportion (Wilson 1927; Brown, Cai and DasGupta 2001). n = 0: [0, 1].
Interval wilson_interval(uint64_t successes, uint64_t n, double z = kZ95);

/// Of the difference of two proportions on the same n items, (only_a - only_b) / n, where only_a items were right for
/// the first alone and only_b for the second alone: Agresti and Min 2005, Wald's interval with half an item added to
/// each of the four cells.
Interval paired_proportion_interval(uint64_t only_a, uint64_t only_b, uint64_t n, double z = kZ95);

/// McNemar's exact test: the two-sided probability of a split at least as uneven when either model is as likely as the
/// other to be the one that is right where they disagree. 1 when they never do.
double mcnemar_exact(uint64_t only_a, uint64_t only_b);

/// Draws `n` of `n` items with replacement, again and again; the same sequence for the same seed on every machine.
class Resampler {
 public:
  Resampler(size_t n, uint64_t seed) : n_(n), random_(seed) {}
  /// How often each item was drawn, [n]; valid until the next call.
  const std::vector<uint32_t>& draw();

 private:
  size_t n_;
  std::mt19937_64 random_;
  std::vector<uint32_t> counts_;
};

/// The 2.5 % and 97.5 % quantiles (linear between order statistics). `values` is not empty; it comes out sorted.
Interval percentile_interval(std::vector<double>& values);

}  // namespace shoehorn::eval
