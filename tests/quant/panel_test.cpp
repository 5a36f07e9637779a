// Rounding under a full quadratic error: the same on every instruction set, never worse, and what is packed is what was
// meant.
#include "quant/panel.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "base/cpu.h"
#include "quant/format.h"
#include "quant/search.h"

namespace shoehorn::quant {
namespace {

constexpr size_t kColumns = kPanelColumns;

/// Weights of 16 rows [column][row], and moments H with strong correlations, as inputs of real layers have.
struct Problem {
  std::vector<float> w = std::vector<float>(kColumns * kPanelRows);
  std::vector<float> h = std::vector<float>(kColumns * kColumns);
  std::vector<float> factor = std::vector<float>(kColumns * kColumns);  ///< upper U with U'U = H^-1
};

/// In double precision: the Cholesky factor of the inverse, by elimination from the last column on.
std::vector<double> inverse_factor(const std::vector<float>& h) {
  const size_t n = kColumns;
  std::vector<double> l(n * n);
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j <= i; ++j) {
      // H with its columns backwards is L L'; then U = (backwards L)^-1.
      double sum = h[(n - 1 - i) * n + (n - 1 - j)];
      for (size_t k = 0; k < j; ++k) sum -= l[i * n + k] * l[j * n + k];
      l[i * n + j] = i == j ? std::sqrt(sum) : sum / l[j * n + j];
    }
  }
  std::vector<double> inverse(n * n);
  for (size_t j = 0; j < n; ++j) {
    for (size_t i = j; i < n; ++i) {
      double sum = i == j ? 1 : 0;
      for (size_t k = j; k < i; ++k) sum -= l[i * n + k] * inverse[k * n + j];
      inverse[i * n + j] = sum / l[i * n + i];
    }
  }
  std::vector<double> u(n * n);
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < n; ++j) u[i * n + j] = inverse[(n - 1 - i) * n + (n - 1 - j)];
  }
  return u;
}

Problem problem(uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  Problem p;
  for (float& w : p.w) w = 0.02f * normal(random);
  constexpr size_t kTokens = 400, kCauses = 40;
  std::vector<float> mixing(kCauses * kColumns), x(kColumns);
  for (float& m : mixing) m = normal(random);
  for (size_t t = 0; t < kTokens; ++t) {
    for (float& v : x) v = normal(random);
    for (size_t c = 0; c < kCauses; ++c) {
      const float cause = normal(random);
      for (size_t j = 0; j < kColumns; ++j) x[j] += 0.5f * cause * mixing[c * kColumns + j];
    }
    for (size_t i = 0; i < kColumns; ++i) {
      for (size_t j = 0; j < kColumns; ++j) p.h[i * kColumns + j] += x[i] * x[j];
    }
  }
  for (size_t i = 0; i < kColumns; ++i) p.h[i * kColumns + i] += 10;
  const auto u = inverse_factor(p.h);
  for (size_t i = 0; i < u.size(); ++i) p.factor[i] = static_cast<float>(u[i]);
  return p;
}

std::vector<float> values_of(const SearchedGrid& grid, const Panel& panel) {
  std::vector<float> out(kColumns * kPanelRows);
  panel_values(grid.grid, panel, out.data());
  return out;
}

/// H (v - w) at every column.
std::vector<float> gradient_of(const Problem& p, const std::vector<float>& v) {
  std::vector<float> g(v.size());
  for (size_t i = 0; i < kColumns; ++i) {
    for (size_t r = 0; r < kPanelRows; ++r) {
      double sum = 0;
      for (size_t j = 0; j < kColumns; ++j) {
        sum += static_cast<double>(p.h[i * kColumns + j]) *
               static_cast<double>(v[j * kPanelRows + r] - p.w[j * kPanelRows + r]);
      }
      g[i * kPanelRows + r] = static_cast<float>(sum);
    }
  }
  return g;
}

/// (v - w)' H (v - w) of each row.
std::vector<double> errors_of(const Problem& p, const std::vector<float>& v) {
  const auto g = gradient_of(p, v);
  std::vector<double> errors(kPanelRows);
  for (size_t i = 0; i < v.size(); ++i)
    errors[i % kPanelRows] += static_cast<double>(g[i]) * static_cast<double>(v[i] - p.w[i]);
  return errors;
}

struct Steps {
  Panel searched{}, rounded{}, descended{};
};

Steps take_steps(const Problem& p, const SearchedGrid& grid, int sweeps) {
  Steps s;
  std::vector<float> importance(kColumns);
  for (size_t j = 0; j < kColumns; ++j) importance[j] = 1 / (p.factor[j * kColumns + j] * p.factor[j * kColumns + j]);
  search_panel(grid, p.w.data(), importance.data(), kColumns, s.searched);
  s.rounded = s.searched;
  std::vector<float> target = p.w, error(p.w.size());
  round_panel(grid.grid, p.factor.data(), kColumns, target.data(), s.rounded, error.data());
  s.descended = s.rounded;
  auto gradient = gradient_of(p, values_of(grid, s.rounded));
  descend_panel(grid.grid, p.h.data(), kColumns, sweeps, gradient.data(), s.descended);
  return s;
}

std::vector<const Format*> formats_with_grids() {
  std::vector<const Format*> out;
  for (const Format& f : formats()) {
    if (f.grid != nullptr) out.push_back(&f);
  }
  return out;
}

class PanelTest : public testing::TestWithParam<const Format*> {};
INSTANTIATE_TEST_SUITE_P(Formats, PanelTest, testing::ValuesIn(formats_with_grids()),
                         [](const auto& tested) { return std::string(tested.param->name); });

TEST_P(PanelTest, EveryStepLowersTheErrorOfEveryRow) {
  const Problem p = problem(3);
  const SearchedGrid& grid = *GetParam()->grid;
  const Steps s = take_steps(p, grid, 4);
  const auto searched = errors_of(p, values_of(grid, s.searched)), rounded = errors_of(p, values_of(grid, s.rounded)),
             descended = errors_of(p, values_of(grid, s.descended));
  for (size_t r = 0; r < kPanelRows; ++r) {
    EXPECT_LT(rounded[r], 0.8 * searched[r]) << "row " << r;
    EXPECT_LT(descended[r], rounded[r]) << "row " << r;
  }
}

TEST_P(PanelTest, NoOtherCodeOfASingleWeightIsBetterAfterTheDescent) {
  const Problem p = problem(4);
  const Grid& grid = GetParam()->grid->grid;
  const Panel panel = take_steps(p, *GetParam()->grid, 12).descended;
  const auto v = values_of(*GetParam()->grid, panel), g = gradient_of(p, v);
  const auto errors = errors_of(p, v);
  std::vector<float> levels;
  for (int level = grid.lo; level <= grid.hi; ++level) {
    if (grid.codebook == nullptr) levels.push_back(static_cast<float>(level));
  }
  for (size_t i = 0; grid.codebook != nullptr && i < 16; ++i) levels.push_back(grid.codebook[i]);
  size_t better = 0;
  for (size_t j = 0; j < kColumns; ++j) {
    for (size_t r = 0; r < kPanelRows; ++r) {
      const double scale = static_cast<double>(panel.d[j / grid.block_size()][r]) *
                           static_cast<double>(panel.scale[j / grid.sub_size][r]);
      for (const float level : levels) {
        const double change = scale * static_cast<double>(level - panel.level[j][r]);
        const double gain = -change * (2 * static_cast<double>(g[j * kPanelRows + r]) +
                                       static_cast<double>(p.h[j * kColumns + j]) * change);
        better += gain > 1e-4 * errors[r] ? 1 : 0;
      }
    }
  }
  // The last sweep's later changes may have moved the optimum of a few earlier ones.
  EXPECT_LE(better, kColumns * kPanelRows / 100);
}

TEST_P(PanelTest, PackedRowsDecodeToThePanelsValues) {
  const Problem p = problem(5);
  const Format& format = *GetParam();
  const Panel panel = take_steps(p, *format.grid, 2).descended;
  const auto v = values_of(*format.grid, panel);
  std::vector<std::byte> blocks(row_bytes(format, kColumns));
  std::vector<float> decoded(kColumns);
  for (size_t r = 0; r < kPanelRows; ++r) {
    pack_row(*format.grid, panel, r, format.block_bytes, blocks.data());
    format.decode(blocks.data(), decoded.data(), kColumns);
    for (size_t j = 0; j < kColumns; ++j)
      ASSERT_EQ(decoded[j], v[j * kPanelRows + r]) << "row " << r << " column " << j;
  }
}

TEST_P(PanelTest, RowsOfZerosAreZeros) {
  Problem p = problem(6);
  for (size_t i = 0; i < p.w.size(); ++i) p.w[i] = i % kPanelRows % 2 == 0 ? 0.0f : p.w[i];
  const Format& format = *GetParam();
  const Panel panel = take_steps(p, *format.grid, 2).descended;
  std::vector<std::byte> blocks(row_bytes(format, kColumns));
  std::vector<float> decoded(kColumns);
  pack_row(*format.grid, panel, 0, format.block_bytes, blocks.data());
  format.decode(blocks.data(), decoded.data(), kColumns);
  for (const float value : decoded) ASSERT_EQ(value, 0);
}

TEST_P(PanelTest, EveryInstructionSetTakesTheSameSteps) {
  const Problem p = problem(7);
  const SearchSet& before = search_set();
  use_search_set(search_sets().front());
  const auto expected = std::make_unique<Steps>(take_steps(p, *GetParam()->grid, 3));
  for (const SearchSet& set : search_sets()) {
    if ((set.cpu_features & ~cpu_features()) != 0) continue;
    use_search_set(set);
    const auto actual = std::make_unique<Steps>(take_steps(p, *GetParam()->grid, 3));
    EXPECT_EQ(std::memcmp(&actual->rounded, &expected->rounded, sizeof(Panel)), 0) << set.isa;
    EXPECT_EQ(std::memcmp(&actual->descended, &expected->descended, sizeof(Panel)), 0) << set.isa;
  }
  use_search_set(before);
}

}  // namespace
}  // namespace shoehorn::quant
