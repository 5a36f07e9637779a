// The encoders' search gives the same bytes on every instruction set that this CPU can run.
#include "quant/search.h"

#include <gtest/gtest.h>

#include <cfloat>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "base/cpu.h"
#include "quant/format.h"

namespace shoehorn::quant {
namespace {

class SearchSetTest : public testing::TestWithParam<SearchSet> {
 protected:
  void SetUp() override {
    if ((GetParam().cpu_features & ~cpu_features()) != 0) GTEST_SKIP() << "this CPU cannot run " << GetParam().isa;
  }
  ~SearchSetTest() override { use_search_set(before_); }

 private:
  const SearchSet& before_ = search_set();
};
INSTANTIATE_TEST_SUITE_P(Isa, SearchSetTest, testing::ValuesIn(search_sets().begin(), search_sets().end()),
                         [](const auto& set) { return std::string(set.param.isa); });

/// Weights as they are, and as they should not be: every row is 2,048 weights, or an odd number of blocks.
std::vector<std::vector<float>> awkward_rows() {
  std::mt19937 random(21);
  std::normal_distribution<float> normal;
  const auto row = [&](size_t n, auto&& weight) {
    std::vector<float> values(n);
    for (size_t i = 0; i < n; ++i) values[i] = weight(i);
    return values;
  };
  std::vector<std::vector<float>> rows;
  for (int i = 0; i < 8; ++i) rows.push_back(row(2048, [&](size_t) { return 0.02f * normal(random); }));
  for (int i = 0; i < 8; ++i) rows.push_back(row(2048, [&](size_t) { return std::pow(normal(random), 3.0f); }));
  rows.push_back(row(256, [&](size_t) { return normal(random); }));
  rows.push_back(row(3 * 256, [&](size_t) { return normal(random); }));
  rows.push_back(row(2048, [&](size_t) { return 1 + 0.1f * normal(random); }));
  rows.push_back(row(2048, [&](size_t) { return -1 + 0.1f * normal(random); }));
  rows.push_back(row(2048, [&](size_t) { return static_cast<float>(static_cast<int>(random() % 7) - 3); }));
  rows.push_back(row(2048, [](size_t i) { return i / 256 % 2 == 0 ? 0.0f : -0.0f; }));
  rows.push_back(row(2048, [](size_t i) { return i % 512 == 77 ? -3.0f : 0.0f; }));
  rows.push_back(row(2048, [&](size_t i) { return i % 100 == 7 ? 50.0f : 1e-4f * normal(random); }));
  rows.push_back(row(2048, [&](size_t i) { return i / 16 % 3 == 0 ? 0.0f : normal(random); }));
  rows.push_back(row(2048, [](size_t i) { return i % 2 == 0 ? 0.25f : -0.25f; }));
  rows.push_back(row(2048, [](size_t i) { return static_cast<float>(i) / 2048; }));
  rows.push_back(row(2048, [&](size_t i) { return std::ldexp(normal(random), -static_cast<int>(i / 16)); }));
  for (const float magnitude : {FLT_TRUE_MIN, FLT_MIN, 1e-30f, 1e-12f, 2e-8f, 6e-8f, 1e-6f, 65504.0f, 1e12f, FLT_MAX}) {
    rows.push_back(row(2048, [&](size_t) { return std::fmax(-1.0f, std::fmin(1.0f, normal(random))) * magnitude; }));
    rows.push_back(row(2048, [&](size_t i) { return i < 1024 ? magnitude : -magnitude; }));
  }
  return rows;
}

TEST_P(SearchSetTest, EncodesToTheSameBytesAsTheScalarOne) {
  std::mt19937 random(22);
  std::normal_distribution<float> normal;
  std::vector<float> importance(2048);
  for (size_t i = 0; i < importance.size(); ++i) importance[i] = i / 256 == 3 ? 0.0f : std::exp(2 * normal(random));
  const auto rows = awkward_rows();
  for (const Format& f : formats()) {
    for (size_t r = 0; r < rows.size(); ++r) {
      for (const float* weights : {static_cast<const float*>(nullptr), static_cast<const float*>(importance.data())}) {
        std::vector<uint8_t> expected(row_bytes(f, rows[r].size()), 0xcc), actual(expected.size(), 0x33);
        use_search_set(search_sets().front());
        f.encode(rows[r].data(), weights, expected.data(), rows[r].size());
        use_search_set(GetParam());
        f.encode(rows[r].data(), weights, actual.data(), rows[r].size());
        ASSERT_EQ(actual, expected) << f.name << ", row " << r << (weights == nullptr ? "" : ", weighted");
      }
    }
  }
}

TEST_P(SearchSetTest, EncodesABlockTheSameAloneAndBesideOthers) {
  use_search_set(GetParam());
  for (const Format& f : formats()) {
    for (const auto& row : awkward_rows()) {
      std::vector<uint8_t> whole(row_bytes(f, row.size())), pieces(whole.size());
      f.encode(row.data(), nullptr, whole.data(), row.size());
      for (size_t i = 0; i < row.size(); i += f.block_size) {
        f.encode(row.data() + i, nullptr, pieces.data() + row_bytes(f, i), f.block_size);
      }
      ASSERT_EQ(whole, pieces) << f.name;
    }
  }
}

}  // namespace
}  // namespace shoehorn::quant
