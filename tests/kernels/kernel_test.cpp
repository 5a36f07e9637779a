#include "kernels/kernel.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <random>

#include "base/cpu.h"
#include "hadamard/transform.h"

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

/// Bytes aligned as kernels want them.
struct Aligned {
  explicit Aligned(size_t n) : data(static_cast<std::byte*>(std::aligned_alloc(64, (n + 63) / 64 * 64))) {}
  ~Aligned() { std::free(data); }
  Aligned(const Aligned&) = delete;
  Aligned& operator=(const Aligned&) = delete;
  float* floats() { return reinterpret_cast<float*>(data); }
  std::byte* data;
};

/// Every set that this CPU runs, with every format.
class EveryKernel : public testing::TestWithParam<std::tuple<size_t, size_t>> {
 protected:
  void SetUp() override {
    const KernelSet& set = kernel_sets()[std::get<0>(GetParam())];
    format = &quant::formats()[std::get<1>(GetParam())];
    if ((set.cpu_features & ~cpu_features()) != 0) GTEST_SKIP() << "this CPU cannot run " << set.isa;
    table = &set.table();
    kernels = &kernels_for(*table, format->type);
  }

  /// The error that a layout's rounding of the activations may cause, and for batch that of the weights: shares of
  /// |largest weight of the row| * |x|, added up like independent errors.
  static double rounding(Layout layout, bool batch) {
    switch (layout) {
      case Layout::kFloatRows:
      case Layout::kFloatTiles: return 0;
      case Layout::kBf16Tiles: return 1.0 / 256;
      case Layout::kInt8Rows:
      case Layout::kInt8Tiles32: return batch ? 2.5 / 127 : 1.5 / 127;
      case Layout::kInt8Rows256:
      case Layout::kInt8Tiles256: return 3.0 / 127;
    }
    return 0;
  }

  void expect_matmul(bool batch, size_t n_rows, size_t n_cols, size_t n_tokens) {
    const Rows rows(*format, n_rows, n_cols, 1);
    const size_t x_stride = n_cols + 3;
    const auto x = random_floats(n_tokens * x_stride, 2);
    const Layout layout = batch ? kernels->batch_layout : kernels->decode_layout;
    Aligned packed(layout_bytes(*table, layout, n_tokens, n_cols));
    // In two calls, as threads do.
    const size_t half = n_tokens / 2 / table->granule * table->granule;
    const PackFn pack = table->pack[static_cast<size_t>(layout)];
    ASSERT_NE(pack, nullptr);
    pack({x.data(), x_stride, n_tokens, n_cols, 0, half, packed.data});
    pack({x.data(), x_stride, n_tokens, n_cols, half, n_tokens, packed.data});

    const size_t tokens = batch ? (n_tokens + table->granule - 1) / table->granule * table->granule : n_tokens;
    const size_t y_stride = batch ? table->panel_rows : n_rows + 5;
    Aligned y(tokens * y_stride * sizeof(float));
    for (size_t i = 0; i < tokens * y_stride; ++i) y.floats()[i] = -7;
    (batch ? kernels->batch : kernels->decode)(
        {rows.bytes.data(), rows.stride, n_rows, n_cols, packed.data, n_tokens, y.floats(), y_stride});
    for (size_t t = 0; t < n_tokens; ++t) {
      for (size_t r = 0; r < n_rows; ++r) {
        const float expected = format->dot(rows.bytes.data() + r * rows.stride, x.data() + t * x_stride, n_cols);
        double magnitude = 0, squares = 0;
        for (size_t c = 0; c < n_cols; ++c) {
          const double product = static_cast<double>(rows.decoded[r * n_cols + c] * x[t * x_stride + c]);
          magnitude += std::abs(product);
          squares += static_cast<double>(x[t * x_stride + c] * x[t * x_stride + c]) + static_cast<double>(rows.decoded[r * n_cols + c] * rows.decoded[r * n_cols + c]);
        }
        // Normal values: the largest of 256 is about three deviations, and rounding errors are spread evenly over a step.
        const double tolerance = 2e-6 * magnitude + 1e-6 + rounding(layout, batch) * 3 * std::sqrt(squares);
        ASSERT_NEAR(y.floats()[t * y_stride + r], expected, tolerance)
            << n_rows << "x" << n_cols << " row " << r << " token " << t << " of " << n_tokens;
      }
      for (size_t r = n_rows; r < y_stride && !batch; ++r) ASSERT_EQ(y.floats()[t * y_stride + r], -7) << "wrote past the rows";
    }
  }

  const KernelTable* table = nullptr;
  const quant::Format* format = nullptr;
  const Kernels* kernels = nullptr;
};

TEST_P(EveryKernel, DecodeEqualsTheFormatsDot) {
  for (const size_t n_cols : widths(*format)) {
    for (const size_t n_tokens : {1, 2, 3, 4, 7}) expect_matmul(false, 5, n_cols, n_tokens);
  }
}

TEST_P(EveryKernel, TernaryWeightsTimesInt8LoseNothing) {
  if (kernels->decode_layout != Layout::kInt8Rows256) return;
  constexpr size_t kRows = 5, kColumns = 1024;
  for (const size_t n_tokens : {1, 3, 8, 13}) {
    const Rows rows(*format, kRows, kColumns, 4);
    std::mt19937 random(9);
    std::vector<float> x(n_tokens * kColumns);
    for (size_t i = 0; i < x.size(); ++i) x[i] = 0.25f * (i % 256 == 77 ? -127.0f : static_cast<float>(static_cast<int>(random() % 255) - 127));
    // The sums of 256 products at their largest.
    for (size_t i = 256; i < 512; ++i) x[i] = 0.25f * 127;
    Aligned packed(layout_bytes(*table, kernels->decode_layout, n_tokens, kColumns));
    table->pack[static_cast<size_t>(kernels->decode_layout)]({x.data(), kColumns, n_tokens, kColumns, 0, n_tokens, packed.data});
    std::vector<float> y(n_tokens * kRows);
    kernels->decode({rows.bytes.data(), rows.stride, kRows, kColumns, packed.data, n_tokens, y.data(), kRows});
    for (size_t t = 0; t < n_tokens; ++t) {
      for (size_t r = 0; r < kRows; ++r) {
        double expected = 0, magnitude = 0;
        for (size_t c = 0; c < kColumns; ++c) {
          const double product = static_cast<double>(rows.decoded[r * kColumns + c]) * static_cast<double>(x[t * kColumns + c]);
          expected += product;
          magnitude += std::abs(product);
        }
        ASSERT_NEAR(y[t * kRows + r], expected, 1e-6 * magnitude) << "row " << r << " token " << t << " of " << n_tokens;
      }
    }
  }
}

TEST_P(EveryKernel, BatchEqualsTheFormatsDot) {
  for (const size_t n_cols : widths(*format)) {
    for (const size_t n_tokens : {1, 8, 13, 31}) {
      for (const size_t n_rows : {size_t{3}, table->panel_rows - 1, table->panel_rows}) expect_matmul(true, n_rows, n_cols, n_tokens);
    }
  }
}

TEST_P(EveryKernel, ExpandEqualsDecoding) {
  for (const size_t n_cols : widths(*format)) {
    const Rows rows(*format, 1, n_cols, 3);
    std::vector<float> out(n_cols + 1, -7);
    kernels->expand(rows.bytes.data(), n_cols, out.data());
    for (size_t c = 0; c < n_cols; ++c) ASSERT_NEAR(out[c], rows.decoded[c], 2e-5 * std::abs(rows.decoded[c]) + 1e-5) << c << " of " << n_cols;
    EXPECT_EQ(out[n_cols], -7);
  }
}

TEST_P(EveryKernel, StoreRoundsToNearest) {
  if (kernels->store == nullptr) return;  // the set stores with the encoder
  constexpr size_t kColumns = 96;
  auto x = random_floats(kColumns, 8);
  x[3] = 0;
  for (size_t i = 64; i < kColumns; ++i) x[i] = 0;  // a block of zeros
  std::vector<std::byte> row(quant::row_bytes(*format, kColumns) + 1, std::byte{77});
  kernels->store(x.data(), kColumns, row.data());
  EXPECT_EQ(row.back(), std::byte{77});
  std::vector<float> stored(kColumns);
  format->decode(row.data(), stored.data(), kColumns);
  for (size_t b = 0; b < kColumns; b += 32) {
    float most = 0;
    for (size_t i = b; i < b + 32; ++i) most = std::max(most, std::abs(x[i]));
    // Half a step: of the value for floats, of the block for integers (Q4_0 has 7 steps on one side and 8 on the other).
    const double step = format->type == quant::Type::F32 ? 0 : format->type == quant::Type::F16 ? 1.0 / 1024 : format->type == quant::Type::BF16 ? 1.0 / 128 : format->type == quant::Type::Q8_0 ? 1.0 / 127 : 1.0 / 4;
    for (size_t i = b; i < b + 32; ++i) {
      ASSERT_NEAR(stored[i], x[i], 0.51 * step * static_cast<double>(format->quantized ? most : std::abs(x[i])) + 1e-7) << i;
    }
  }
}

TEST_P(EveryKernel, AttendEqualsSoftmaxTimesValues) {
  struct Shape {
    size_t n_tokens, n_heads, head_dim, n_past;
    float softcap = 0;
    size_t window = 0;
    bool sloped = false;
  };
  for (const Shape& s : {Shape{1, 4, 64, 0}, {1, 1, 64, 200}, {3, 3, 128, 70}, {40, 4, 64, 30}, {17, 2, 256, 0}, {2, 1, 8, 5}, {5, 2, 80, 63},
                         {3, 2, 64, 70, 2.5f, 0}, {40, 4, 64, 150, 0, 33}, {1, 2, 64, 300, 3, 150}, {30, 1, 64, 0, 0, 7},
                         {20, 3, 64, 90, 0, 0, true}, {1, 2, 64, 300, 3, 150, true}, {5, 1, 80, 40, 0, 0, true}}) {
    if (s.head_dim % format->block_size != 0) continue;
    const size_t n_positions = s.n_past + s.n_tokens, rows = s.n_tokens * s.n_heads, width = s.n_heads * s.head_dim;
    const Rows keys(*format, n_positions, s.head_dim, 5), values(*format, n_positions, s.head_dim, 6);
    const auto q = random_floats(s.n_tokens * width, 7);
    std::vector<float> out(s.n_tokens * width), max(rows), sum(rows);
    Aligned scratch(table->attend_scratch(s.head_dim) * sizeof(float));
    const float scale = 0.3f;
    std::vector<float> slopes;
    for (size_t h = 0; h < s.n_heads; ++h) slopes.push_back(0.05f * static_cast<float>(h + 1));
    const bool rounds_queries = format->type == quant::Type::Q8_0 && kernels->scores != nullptr;
    for (const size_t split : {n_positions, n_positions / 2}) {
      std::vector<float> merged(s.n_tokens * width), total(rows);
      for (size_t first = 0; first < n_positions; first += std::max<size_t>(1, split)) {
        table->attend({q.data(), width, s.n_tokens, s.n_heads, s.head_dim, keys.bytes.data(), values.bytes.data(), keys.stride,
                       values.stride, kernels, kernels, s.n_past, first,
                       std::min(n_positions, first + std::max<size_t>(1, split)), scale, out.data(), width, max.data(), sum.data(),
                       scratch.floats(), s.softcap, s.window, s.sloped ? slopes.data() : nullptr});
        for (size_t r = 0; r < rows; ++r) {
          if (sum[r] == 0) continue;  // a range of which the token sees nothing
          const float share = sum[r] * std::exp(max[r]);
          total[r] += share;
          for (size_t d = 0; d < s.head_dim; ++d) merged[r * s.head_dim + d] += share * out[r * s.head_dim + d];
        }
      }
      for (size_t t = 0; t < s.n_tokens; ++t) {
        for (size_t h = 0; h < s.n_heads; ++h) {
          const float* query = q.data() + t * width + h * s.head_dim;
          std::vector<double> expected(s.head_dim);
          double weights = 0;
          const size_t n_seen = s.n_past + t + 1, hidden = s.window > 0 && n_seen > s.window ? n_seen - s.window : 0;
          for (size_t p = hidden; p < n_seen; ++p) {
            double score = 0;
            for (size_t d = 0; d < s.head_dim; ++d) score += static_cast<double>(query[d] * keys.decoded[p * s.head_dim + d]);
            score *= static_cast<double>(scale);
            if (s.softcap > 0) score = static_cast<double>(s.softcap) * std::tanh(score / static_cast<double>(s.softcap));
            if (s.sloped) score -= static_cast<double>(slopes[h]) * static_cast<double>(n_seen - 1 - p);
            const double weight = std::exp(score);
            weights += weight;
            for (size_t d = 0; d < s.head_dim; ++d) expected[d] += weight * static_cast<double>(values.decoded[p * s.head_dim + d]);
          }
          for (size_t d = 0; d < s.head_dim; ++d) {
            const size_t r = t * s.n_heads + h;
            // A few query rows meet keys in Q8_0 as int8: each score is off by up to about 1 %.
            ASSERT_NEAR(merged[r * s.head_dim + d] / total[r], expected[d] / weights, rounds_queries && rows <= 16 ? 0.04 : 5e-5)
                << "token " << t << " head " << h << " element " << d << " of " << s.head_dim << ", ranges of " << split;
          }
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Table, EveryKernel,
                         testing::Combine(testing::Range<size_t>(0, kernel_sets().size()),
                                          testing::Range<size_t>(0, quant::formats().size())),
                         [](const auto& parameter) {
                           return std::string(kernel_sets()[std::get<0>(parameter.param)].isa) + "_" +
                                  quant::formats()[std::get<1>(parameter.param)].name;
                         });

/// Every set that this CPU runs: the operations between products.
class EverySet : public testing::TestWithParam<size_t> {
 protected:
  void SetUp() override {
    const KernelSet& set = kernel_sets()[GetParam()];
    if ((set.cpu_features & ~cpu_features()) != 0) GTEST_SKIP() << "this CPU cannot run " << set.isa;
    table = &set.table();
  }
  const KernelTable* table = nullptr;
};

double activated(Activation activation, double x) {
  switch (activation) {
    case Activation::kSilu: return x / (1 + std::exp(-x));
    case Activation::kGeluTanh: return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case Activation::kGelu: return 0.5 * x * std::erfc(-x / std::sqrt(2));
    case Activation::kRelu2: return x > 0 ? x * x : 0;
  }
  return NAN;
}

TEST_P(EverySet, ElementwiseOperationsEqualTheirFormulas) {
  for (const size_t n : {1, 7, 16, 37, 2048}) {
    auto x = random_floats(n, 1), gain = random_floats(n, 2);
    x[0] = 95;  // where exp() over- and underflows
    if (n > 1) x[1] = -95;
    std::vector<float> out(n);
    table->rms_norm(x.data(), gain.data(), n, 1e-5f, out.data());
    double squares = 0;
    for (const float v : x) squares += static_cast<double>(v) * static_cast<double>(v);
    const double scale = 1 / std::sqrt(squares / static_cast<double>(n) + 1e-5);
    for (size_t i = 0; i < n; ++i) {
      const double expected = static_cast<double>(x[i]) * scale * static_cast<double>(gain[i]);
      ASSERT_NEAR(out[i], expected, 2e-6 * std::abs(expected) + 1e-9);
    }
    double sum = 0, spread = 0;
    for (const float v : x) sum += static_cast<double>(v);
    const double mean = sum / static_cast<double>(n);
    for (const float v : x) spread += (static_cast<double>(v) - mean) * (static_cast<double>(v) - mean);
    const double deviation = std::sqrt(spread / static_cast<double>(n) + 1e-5);
    const auto bias = random_floats(n, 3);
    for (const float* shift : {bias.data(), static_cast<const float*>(nullptr)}) {
      table->layer_norm(x.data(), gain.data(), shift, n, 1e-5f, out.data());
      for (size_t i = 0; i < n; ++i) {
        const double normed = (static_cast<double>(x[i]) - mean) / deviation;
        const double expected = normed * static_cast<double>(gain[i]) + (shift == nullptr ? 0 : static_cast<double>(shift[i]));
        // With one element nothing is left of it but what the mean was rounded by.
        ASSERT_NEAR(out[i], expected, n == 1 ? 1e-2 : 1e-5 * (std::abs(expected) + 1)) << i << " of " << n;
      }
    }
    for (size_t a = 0; a < kActivations; ++a) {
      for (const bool gated : {true, false}) {
        auto gate = x;
        table->activate[a](gate.data(), gated ? gain.data() : nullptr, n);
        for (size_t i = 0; i < n; ++i) {
          const double g = static_cast<double>(x[i]), up = gated ? static_cast<double>(gain[i]) : 1;
          const double expected = activated(static_cast<Activation>(a), g) * up;
          // Where 1 + tanh or 1 + erf cancels, its own rounding is what is left.
          const bool cancels = static_cast<Activation>(a) == Activation::kGeluTanh || static_cast<Activation>(a) == Activation::kGelu;
          ASSERT_NEAR(gate[i], expected, 2e-6 * std::abs(expected) + (cancels ? 1.5e-7 * std::abs(g * up) : 1e-30)) << a << ", " << g;
        }
      }
    }
    auto total = x;
    table->add(total.data(), gain.data(), n);
    for (size_t i = 0; i < n; ++i) ASSERT_EQ(total[i], x[i] + gain[i]);
  }
}

TEST_P(EverySet, HadamardTransformsEqualThoseInDoublePrecision) {
  // Blocks narrower than a register, factors without and with a Sylvester matrix beside them, the widths of real models.
  for (const size_t n : {2, 4, 6, 8, 12, 20, 24, 32, 64, 96, 120, 256, 472, 688, 1024, 8960, 10752, 11008, 14336}) {
    const hadamard::Plan plan = *hadamard::plan(n);
    const hadamard::Transform<float> fast(plan, table->hadamard);
    const hadamard::Transform<double> exact(plan);
    constexpr size_t kVectors = 3;
    auto x = random_floats(n * kVectors, 7);
    const auto source = x;
    std::vector<double> expected(x.begin(), x.end()), scratch(exact.scratch());
    std::vector<float> fast_scratch(fast.scratch());
    fast.apply(x.data(), fast_scratch.data(), kVectors);
    exact.apply(expected.data(), scratch.data(), kVectors);
    for (size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(x[i], expected[i], 1e-5) << plan.describe() << ", " << i;
    fast.undo(x.data(), fast_scratch.data(), kVectors);
    for (size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(x[i], source[i], 2e-5) << plan.describe() << ", " << i;
  }
}

TEST_P(EverySet, ActivationsOfZerosAndOutliersPackCleanly) {
  for (size_t l = 0; l < kLayouts; ++l) {
    if (table->pack[l] == nullptr) continue;
    for (const Kernels& kernels : table->formats) {
      for (const bool batch : {false, true}) {
        if ((batch ? kernels.batch_layout : kernels.decode_layout) != static_cast<Layout>(l)) continue;
        constexpr size_t kColumns = 256;
        const quant::Format& format = quant::format(kernels.type);
        const Rows rows(format, 1, kColumns, 9);
        std::vector<float> x(kColumns);
        for (const float outlier : {0.0f, 1e-38f, 1e30f}) {
          x[17] = outlier;
          Aligned packed(layout_bytes(*table, static_cast<Layout>(l), 1, kColumns));
          table->pack[l]({x.data(), kColumns, 1, kColumns, 0, 1, packed.data});
          Aligned y(table->granule * table->panel_rows * sizeof(float));
          (batch ? kernels.batch : kernels.decode)({rows.bytes.data(), rows.stride, 1, kColumns, packed.data, 1, y.floats(), table->panel_rows});
          const double expected = static_cast<double>(rows.decoded[17]) * static_cast<double>(outlier);
          // Against the largest weight of the row, because a batch may round the weights to its steps.
          EXPECT_NEAR(y.floats()[0], expected, 0.03 * 4 * static_cast<double>(outlier) + 1e-30) << format.name << (batch ? " batch" : " decode");
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Table, EverySet, testing::Range<size_t>(0, kernel_sets().size()),
                         [](const auto& parameter) { return std::string(kernel_sets()[parameter.param].isa); });

TEST(KernelSelection, TakesTheLastSetThatTheCpuCanRun) {
  unsetenv("SHOEHORN_ISA");
  const auto chosen = select_kernel_set();
  ASSERT_TRUE(chosen.has_value());
  const KernelSet* expected = nullptr;
  for (const KernelSet& set : kernel_sets()) {
    if (((set.cpu_features | set.wanted_features) & ~cpu_features()) == 0) expected = &set;
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
