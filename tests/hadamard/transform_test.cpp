#include "hadamard/transform.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace shoehorn::hadamard {
namespace {

std::vector<double> some_values(size_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  std::vector<double> x(n);
  for (double& v : x) v = normal(random);
  return x;
}

/// The matrix of a plan, entry by entry: the entry of a Kronecker product is the product of the factors' entries.
double entry(const Plan& plan, const std::vector<std::vector<int8_t>>& factors, size_t i, size_t j) {
  if (i / plan.block != j / plan.block) return 0;
  double value = 1 / std::sqrt(static_cast<double>(plan.block));
  size_t row = i % plan.block, column = j % plan.block;
  for (size_t f = factors.size(); f-- > 0;) {
    const auto order = static_cast<size_t>(std::sqrt(static_cast<double>(factors[f].size())) + 0.5);
    value *= factors[f][row % order * order + column % order];
    row /= order;
    column /= order;
  }
  return value;
}

TEST(Transform, EqualsTheKroneckerProductEntryByEntry) {
  for (const size_t n : {2, 6, 8, 12, 48, 96, 240, 336, 472}) {
    const Plan made = *plan(n);
    std::vector<std::vector<int8_t>> factors;
    for (const Factor& factor : made.factors) factors.push_back(matrix(factor));
    factors.push_back(matrix({Construction::kSylvester, size_t{1} << made.log2}));
    const std::vector<double> x = some_values(n, 1);
    std::vector<double> fast = x, transposed = x;
    const Transform<double> transform(made);
    std::vector<double> scratch(transform.scratch());
    transform.apply(fast.data(), scratch.data());
    transform.undo(transposed.data(), scratch.data());
    for (size_t i = 0; i < n; ++i) {
      double row = 0, column = 0;
      for (size_t j = 0; j < n; ++j) {
        row += entry(made, factors, i, j) * x[j];
        column += entry(made, factors, j, i) * x[j];
      }
      ASSERT_NEAR(fast[i], row, 1e-12) << n << " (" << made.describe() << "), " << i;
      ASSERT_NEAR(transposed[i], column, 1e-12) << n << " (" << made.describe() << "), " << i;
    }
  }
}

TEST(Transform, KeepsLengthsAndIsUndone) {
  for (const size_t n : {768, 4096, 8960, 10752, 11008, 13824, 14336, 15104, 18944}) {
    const Transform<double> transform(*plan(n));
    const std::vector<double> x = some_values(n, 2);
    std::vector<double> y = x, scratch(transform.scratch());
    transform.apply(y.data(), scratch.data());
    double before = 0, after = 0, moved = 0;
    for (size_t i = 0; i < n; ++i) {
      before += x[i] * x[i];
      after += y[i] * y[i];
      moved += (x[i] - y[i]) * (x[i] - y[i]);
    }
    EXPECT_NEAR(after / before, 1, 1e-12) << n;
    EXPECT_GT(moved / before, 0.5) << n << ": it does something";
    transform.undo(y.data(), scratch.data());
    for (size_t i = 0; i < n; ++i) ASSERT_NEAR(y[i], x[i], 1e-11) << n;
  }
}

/// What rotations are for: an outlier becomes a small part of every value of its block.
TEST(Transform, SpreadsAnOutlierOverItsBlock) {
  const Plan made = *plan(10752);
  std::vector<float> x(made.n, 0);
  x[4711] = 100;
  const Transform<float> transform(made);
  std::vector<float> scratch(transform.scratch());
  transform.apply(x.data(), scratch.data());
  for (const float v : x) ASSERT_NEAR(std::abs(v), 100 / std::sqrt(static_cast<float>(made.n)), 1e-4f);
}

}  // namespace
}  // namespace shoehorn::hadamard
