#include "kernels/kernel.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "base/cpu.h"

namespace shoehorn::kernels {
namespace {

/// Rows of random weights in a format, and the floats that they decode to.
struct Rows {
  Rows(const quant::Format& format, size_t n_rows, size_t n_cols, uint32_t seed) : n(n_cols) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0, 1);
    stride = quant::row_bytes(format, n_cols) + 16;  // rows need not touch
    bytes.resize(n_rows * stride);
    decoded.resize(n_rows * n_cols);
    std::vector<float> row(n_cols);
    for (size_t r = 0; r < n_rows; ++r) {
      for (float& w : row) w = normal(random);
      format.encode(row.data(), nullptr, bytes.data() + r * stride, n_cols);
      format.decode(bytes.data() + r * stride, decoded.data() + r * n_cols, n_cols);
    }
  }
  size_t n, stride;
  std::vector<std::byte> bytes;
  std::vector<float> decoded;
};

std::vector<float> random_floats(size_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 1);
  std::vector<float> out(n);
  for (float& x : out) x = normal(random);
  return out;
}

/// Column counts that exercise whole chunks, a partial chunk and, for formats without blocks, a ragged tail.
std::vector<size_t> widths(const quant::Format& format) {
  if (format.block_size == 256) return {256, 1024};
  if (format.block_size == 32) return {32, 256, 352, 704};
  return {1, 15, 16, 172, 256, 300, 1024};
}

/// Every set that this CPU runs, with every format.
class EveryKernel : public testing::TestWithParam<std::tuple<size_t, size_t>> {
 protected:
  void SetUp() override {
    set = &kernel_sets()[std::get<0>(GetParam())];
    format = &quant::formats()[std::get<1>(GetParam())];
    if ((set->cpu_features & ~cpu_features()) != 0) GTEST_SKIP() << "this CPU cannot run " << set->isa;
    kernels = &kernels_for(*set, format->type);
  }

  void expect_matmul(MatmulFn matmul, size_t n_rows, size_t n_cols, size_t n_tokens) {
    const Rows rows(*format, n_rows, n_cols, 1);
    const size_t x_stride = n_cols + 3, y_stride = n_rows + 5;
    const auto x = random_floats(n_tokens * x_stride, 2);
    std::vector<float> y(n_tokens * y_stride, -7);
    matmul({rows.bytes.data(), rows.stride, n_rows, n_cols, x.data(), x_stride, n_tokens, y.data(), y_stride});
    for (size_t t = 0; t < n_tokens; ++t) {
      for (size_t r = 0; r < n_rows; ++r) {
        const float expected = format->dot(rows.bytes.data() + r * rows.stride, x.data() + t * x_stride, n_cols);
        double magnitude = 0;
        for (size_t c = 0; c < n_cols; ++c) magnitude += std::abs(static_cast<double>(rows.decoded[r * n_cols + c] * x[t * x_stride + c]));
        ASSERT_NEAR(y[t * y_stride + r], expected, 2e-6 * magnitude + 1e-6)
            << n_rows << "x" << n_cols << " row " << r << " token " << t << " of " << n_tokens;
      }
      for (size_t r = n_rows; r < y_stride; ++r) ASSERT_EQ(y[t * y_stride + r], -7) << "wrote past the rows";
    }
  }

  const KernelSet* set = nullptr;
  const quant::Format* format = nullptr;
  const Kernels* kernels = nullptr;
};

TEST_P(EveryKernel, MatmulEqualsTheFormatsDot) {
  for (const size_t n_cols : widths(*format)) {
    for (const size_t n_tokens : {1, 2, 3, 4, 7}) expect_matmul(kernels->matmul, 5, n_cols, n_tokens);
  }
}

TEST_P(EveryKernel, MatmulBatchEqualsTheFormatsDot) {
  for (const size_t n_cols : widths(*format)) {
    for (const size_t n_tokens : {1, 8, 13}) {
      for (const size_t n_rows : {3, 16, 37}) expect_matmul(kernels->matmul_batch, n_rows, n_cols, n_tokens);
    }
  }
}

TEST_P(EveryKernel, WeightedSumEqualsTheSumOfDecodedRows) {
  for (const size_t n_cols : widths(*format)) {
    constexpr size_t kRows = 9, kTokens = 3;
    const Rows rows(*format, kRows, n_cols, 3);
    const auto weights = random_floats(kTokens * kRows, 4);
    auto y = random_floats(kTokens * n_cols, 5);
    auto expected = y;
    for (size_t t = 0; t < kTokens; ++t) {
      for (size_t r = 0; r < kRows; ++r) {
        for (size_t c = 0; c < n_cols; ++c) expected[t * n_cols + c] += weights[t * kRows + r] * rows.decoded[r * n_cols + c];
      }
    }
    kernels->weighted_sum({rows.bytes.data(), rows.stride, kRows, n_cols, weights.data(), kRows, kTokens, y.data(), n_cols});
    for (size_t i = 0; i < y.size(); ++i) ASSERT_NEAR(y[i], expected[i], 2e-5) << "element " << i << " of width " << n_cols;
  }
}

INSTANTIATE_TEST_SUITE_P(Table, EveryKernel,
                         testing::Combine(testing::Range<size_t>(0, kernel_sets().size()),
                                          testing::Range<size_t>(0, quant::formats().size())),
                         [](const auto& parameter) {
                           return std::string(kernel_sets()[std::get<0>(parameter.param)].isa) + "_" +
                                  quant::formats()[std::get<1>(parameter.param)].name;
                         });

TEST(KernelSelection, TakesTheLastSetThatTheCpuCanRun) {
  unsetenv("SHOEHORN_ISA");
  const auto chosen = select_kernel_set();
  ASSERT_TRUE(chosen.has_value());
  const KernelSet* expected = nullptr;
  for (const KernelSet& set : kernel_sets()) {
    if ((set.cpu_features & ~cpu_features()) == 0) expected = &set;
  }
  EXPECT_EQ(*chosen, expected);
}

TEST(KernelSelection, EnvironmentForcesASetAndRefusesAnUnknownOne) {
  setenv("SHOEHORN_ISA", "scalar", 1);
  const auto chosen = select_kernel_set();
  ASSERT_TRUE(chosen.has_value());
  EXPECT_STREQ((*chosen)->isa, "scalar");
  setenv("SHOEHORN_ISA", "mmx", 1);
  const auto refused = select_kernel_set();
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().message.find("SHOEHORN_ISA=mmx"), std::string::npos);
  unsetenv("SHOEHORN_ISA");
}

}  // namespace
}  // namespace shoehorn::kernels
