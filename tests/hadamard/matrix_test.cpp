#include "hadamard/matrix.h"

#include <gtest/gtest.h>

#include "hadamard/finite_field.h"

namespace shoehorn::hadamard {
namespace {

TEST(PrimePower, KnowsPowersOfPrimes) {
  const auto of = [](uint32_t q) {
    const auto power = prime_power(q);
    return power ? std::pair(power->p, power->degree) : std::pair(0u, 0u);
  };
  EXPECT_EQ(of(2), std::pair(2u, 1u));
  EXPECT_EQ(of(343), std::pair(7u, 3u));
  EXPECT_EQ(of(243), std::pair(3u, 5u));
  EXPECT_EQ(of(83), std::pair(83u, 1u));
  for (const uint32_t q : {0u, 1u, 6u, 12u, 235u, 403u, 943u}) EXPECT_FALSE(prime_power(q)) << q;
}

/// The axioms that Paley's proofs use, on fields with and without an extension.
TEST(FiniteField, IsAField) {
  for (const uint32_t q : {3u, 5u, 7u, 9u, 25u, 27u, 49u, 81u, 83u, 343u}) {
    const FiniteField field(*prime_power(q));
    ASSERT_EQ(field.order(), q);
    int sum = 0;
    for (uint32_t a = 0; a < q; ++a) {
      sum += field.character(a);
      std::vector<bool> seen(q, false);
      for (uint32_t b = 0; b < q; ++b) {
        const uint32_t product = field.multiply(a, b);
        ASSERT_LT(product, q);
        ASSERT_EQ(product, field.multiply(b, a));
        ASSERT_EQ(field.character(product), field.character(a) * field.character(b)) << q << ": " << a << " * " << b;
        if (a != 0) {
          ASSERT_FALSE(seen[product]) << q << ": " << a << " divides zero or has two inverses";
          seen[product] = true;
        }
        const uint32_t c = (a * 7 + b * 3 + 1) % q;
        ASSERT_EQ(field.multiply(c, field.subtract(a, b)), field.subtract(field.multiply(c, a), field.multiply(c, b)));
      }
    }
    EXPECT_EQ(sum, 0) << q << ": as many squares as others";
  }
}

void expect_hadamard(const std::vector<int8_t>& h, size_t n) {
  ASSERT_EQ(h.size(), n * n);
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < n; ++j) {
      int dot = 0;
      for (size_t k = 0; k < n; ++k) {
        ASSERT_TRUE(h[i * n + k] == 1 || h[i * n + k] == -1);
        dot += h[i * n + k] * h[j * n + k];
      }
      ASSERT_EQ(dot, i == j ? static_cast<int>(n) : 0) << "order " << n << ", rows " << i << " and " << j;
    }
  }
}

TEST(Matrix, EveryOrderThatPaleyHasIsOrthogonal) {
  size_t n_found = 0;
  for (size_t order = 4; order <= 200; order += 4) {
    const auto factor = paley(order);
    if (!factor) continue;
    ++n_found;
    expect_hadamard(matrix(*factor), order);
  }
  EXPECT_EQ(n_found, 32u);
}

/// The orders below 200 that need other constructions (Williamson's and later ones) are known.
TEST(Plan, OnlyTheseOrdersUpTo200HaveNoProduct) {
  std::vector<size_t> without;
  for (size_t n = 4; n <= 200; n += 4) {
    if (!plan(n)->whole()) without.push_back(n);
  }
  EXPECT_EQ(without, (std::vector<size_t>{92, 116, 156, 172, 184, 188}));
}

TEST(Matrix, Of344ComesOfAFieldOf7Cubed) {
  const auto factor = paley(344);
  ASSERT_TRUE(factor);
  EXPECT_EQ(factor->construction, Construction::kPaley1);
  EXPECT_EQ(factor->q, 343u);
  expect_hadamard(matrix(*factor), 344);
}

TEST(Matrix, SylvestersAreTheKroneckerPowersOfTwo) {
  expect_hadamard(matrix({Construction::kSylvester, 64}), 64);
  EXPECT_EQ(matrix({Construction::kSylvester, 2}), (std::vector<int8_t>{1, 1, 1, -1}));
}

/// Widths of MLPs and of residual streams that models have, the pruned one of the study among them.
TEST(Plan, OfTheWidthsThatModelsHave) {
  const std::pair<size_t, const char*> kWidths[] = {{256, "256"},
                                                    {512, "512"},
                                                    {768, "12 x 64"},
                                                    {2048, "2048"},
                                                    {3072, "12 x 256"},
                                                    {4096, "4096"},
                                                    {5120, "20 x 256"},
                                                    {5632, "44 x 128"},
                                                    {8192, "8192"},
                                                    {8960, "20 x 28 x 16"},
                                                    {9728, "76 x 128"},
                                                    {10752, "12 x 28 x 32"},
                                                    {11008, "344 x 32"},
                                                    {13824, "12 x 12 x 12 x 8"},
                                                    {14336, "28 x 512"},
                                                    {17408, "68 x 256"},
                                                    {18944, "148 x 128"},
                                                    {28672, "28 x 1024"},
                                                    {15104, "59 blocks of 256"},
                                                    {25856, "101 blocks of 256"},
                                                    {2, "2"},
                                                    {6, "3 blocks of 2"}};
  for (const auto& [n, expected] : kWidths) {
    const auto made = plan(n);
    ASSERT_TRUE(made.has_value()) << n;
    EXPECT_EQ(made->describe(), expected) << n;
    EXPECT_LE(made->dense(), kMaxDense);
    size_t product = size_t{1} << made->log2;
    for (const Factor& factor : made->factors) product *= factor.order;
    EXPECT_EQ(product, made->block) << n;
  }
}

TEST(Plan, OddNumbersHaveNone) {
  for (const size_t n : {0, 1, 3, 4095}) {
    const auto made = plan(n);
    ASSERT_FALSE(made.has_value()) << n;
    EXPECT_NE(made.error().message.find(std::to_string(n)), std::string::npos);
  }
}

}  // namespace
}  // namespace shoehorn::hadamard
