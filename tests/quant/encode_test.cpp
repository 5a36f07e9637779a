#include <gtest/gtest.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <map>
#include <random>
#include <string>

#include "quant/format.h"

namespace shoehorn::quant {
namespace {

std::vector<float> gaussian(size_t n, uint32_t seed, float sigma = 0.02f) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, sigma);
  std::vector<float> x(n);
  for (float& v : x) v = normal(random);
  return x;
}

std::vector<uint8_t> encode(const Format& f, const std::vector<float>& x, const float* importance = nullptr) {
  std::vector<uint8_t> bytes(row_bytes(f, x.size()), 0xcc);
  f.encode(x.data(), importance, bytes.data(), x.size());
  return bytes;
}

std::vector<float> round_trip(const Format& f, const std::vector<float>& x, const float* importance = nullptr) {
  const auto bytes = encode(f, x, importance);
  std::vector<float> out(x.size());
  f.decode(bytes.data(), out.data(), out.size());
  return out;
}

double squared_error(const std::vector<float>& x, const std::vector<float>& y, const float* importance = nullptr) {
  double error = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double e = static_cast<double>(x[i]) - static_cast<double>(y[i]);
    error += e * e * (importance == nullptr ? 1.0 : static_cast<double>(importance[i]));
  }
  return error;
}

double relative_rmse(const std::vector<float>& x, const std::vector<float>& y) {
  return std::sqrt(squared_error(x, y) / squared_error(x, std::vector<float>(x.size(), 0.0f)));
}

class EveryEncoder : public testing::TestWithParam<Format> {};
INSTANTIATE_TEST_SUITE_P(Formats, EveryEncoder, testing::ValuesIn(formats().begin(), formats().end()),
                         [](const auto& row) { return std::string(row.param.name); });

TEST_P(EveryEncoder, ReturnsGaussianWeightsWithinItsErrorBound) {
  const std::map<std::string, double> bound = {
      {"F32", 0},       {"F16", 0.0003},   {"BF16", 0.0025},   {"Q8_0", 0.0055},  {"Q6_K", 0.018},
      {"Q5_K", 0.038},  {"Q5_0", 0.042},   {"Q5_1", 0.038},    {"Q4_K", 0.078},   {"Q4_0", 0.087},
      {"Q4_1", 0.079},  {"IQ4_NL", 0.079}, {"IQ4_XS", 0.08},   {"Q3_K", 0.155},   {"Q2_K", 0.29},
      {"TQ1_0", 0.81},  {"TQ2_0", 0.81},   {"MXFP4", 0.1125},  {"IQ3_S", 0.1325}, {"IQ3_XXS", 0.181},
      {"IQ2_S", 0.244}, {"IQ2_XS", 0.292}, {"IQ2_XXS", 0.344}, {"IQ1_M", 0.433},  {"IQ1_S", 0.468}};
  const auto x = gaussian(256 * 200, 3);
  EXPECT_LE(relative_rmse(x, round_trip(GetParam(), x)), bound.at(GetParam().name));
}

/// Error of rounding to the nearest of `levels + 1` even steps from the least to the largest weight of each sub-block,
/// with scales and mins that cost nothing: what an encoder without a search would at best do.
double min_max_error(const std::vector<float>& x, size_t sub_size, int levels) {
  double error = 0;
  for (size_t s = 0; s < x.size(); s += sub_size) {
    const auto [least, most] = std::minmax_element(x.begin() + s, x.begin() + s + sub_size);
    const float step = (*most - *least) / static_cast<float>(levels);
    for (size_t i = s; i < s + sub_size; ++i) {
      const double e = static_cast<double>(x[i] - (*least + step * std::round((x[i] - *least) / step)));
      error += e * e;
    }
  }
  return error;
}

/// The same with a scale only, the largest magnitude at -`reach`.
double largest_magnitude_error(const std::vector<float>& x, size_t sub_size, int reach) {
  double error = 0;
  for (size_t s = 0; s < x.size(); s += sub_size) {
    const float extreme = *std::max_element(x.begin() + s, x.begin() + s + sub_size,
                                            [](float a, float b) { return std::abs(a) < std::abs(b); });
    const float step = extreme / static_cast<float>(-reach);
    for (size_t i = s; i < s + sub_size; ++i) {
      const float q = std::clamp(std::round(x[i] / step), static_cast<float>(-reach), static_cast<float>(reach - 1));
      const double e = static_cast<double>(x[i] - step * q);
      error += e * e;
    }
  }
  return error;
}

TEST(Encoders, BeatTheLargestMagnitudeScaleEvenThoughTheirScalesAreRounded) {
  const auto x = gaussian(256 * 200, 4);
  const auto error = [&](Type type) { return squared_error(x, round_trip(format(type), x)); };
  EXPECT_LT(error(Type::Q4_0), 0.92 * largest_magnitude_error(x, 32, 8));
  EXPECT_LT(error(Type::Q5_0), 0.97 * largest_magnitude_error(x, 32, 16));
  EXPECT_LT(error(Type::Q8_0), largest_magnitude_error(x, 32, 127));
  EXPECT_LT(error(Type::Q3_K), 0.9 * largest_magnitude_error(x, 16, 4));
  EXPECT_LT(error(Type::Q6_K), largest_magnitude_error(x, 16, 32));
  EXPECT_LT(error(Type::Q4_1), 0.97 * min_max_error(x, 32, 15));
  EXPECT_LT(error(Type::Q5_1), min_max_error(x, 32, 31));
  EXPECT_LT(error(Type::Q4_K), min_max_error(x, 32, 15));
  EXPECT_LT(error(Type::Q2_K), 0.95 * min_max_error(x, 16, 3));
  EXPECT_LT(error(Type::IQ4_NL), 0.95 * error(Type::Q4_0)) << "its levels are made for bell-shaped weights";
}

TEST_P(EveryEncoder, IsDeterministicAndEncodesBlocksIndependently) {
  const Format& f = GetParam();
  const auto x = gaussian(1024, 5);
  const auto whole = encode(f, x);
  EXPECT_EQ(whole, encode(f, x));
  std::vector<uint8_t> pieces;
  for (size_t i = 0; i < x.size(); i += 256) {
    const auto piece = encode(f, std::vector<float>(x.begin() + i, x.begin() + i + 256));
    pieces.insert(pieces.end(), piece.begin(), piece.end());
  }
  EXPECT_EQ(whole, pieces);
}

TEST_P(EveryEncoder, EncodesZerosAsZeros) {
  for (const float w : round_trip(GetParam(), std::vector<float>(256, 0.0f))) EXPECT_EQ(w, 0.0f);
}

TEST_P(EveryEncoder, KeepsAConstantBlock) {
  // The scale of MXFP4 is a power of two.
  const float tolerance = GetParam().type == Type::MXFP4 ? 0.03f : 0.005f;
  for (const float c : {1.0f, -0.37f, 1e-3f}) {
    for (const float w : round_trip(GetParam(), std::vector<float>(256, c))) ASSERT_NEAR(w, c, tolerance * std::abs(c));
  }
}

/// Rows at the ends of the float range and of odd shapes; every decoded weight must be finite and no farther out than
/// about the largest weight given.
TEST_P(EveryEncoder, StaysFiniteAndInRangeForExtremeBlocks) {
  const Format& f = GetParam();
  std::mt19937 random(6);
  std::vector<std::vector<float>> rows;
  for (const float magnitude :
       {FLT_TRUE_MIN, 1e-40f, FLT_MIN, 1e-30f, 1e-12f, 6e-8f, 1e-6f, 1.0f, 65504.0f, 1e6f, 1e12f, 1e30f, FLT_MAX}) {
    auto row = gaussian(256, static_cast<uint32_t>(rows.size()), 1.0f);
    for (float& v : row) v = std::clamp(v, -1.0f, 1.0f) * magnitude;
    rows.push_back(row);
    rows.emplace_back(256, magnitude);
    rows.emplace_back(256, -magnitude);
    std::vector<float> spike(256, 0.0f);
    spike[random() % 256] = -magnitude;
    rows.push_back(spike);
    std::vector<float> outlier = gaussian(256, 9, 1e-3f);
    outlier[17] = magnitude;
    rows.push_back(outlier);
    std::vector<float> alternating(256);
    for (size_t i = 0; i < 256; ++i) alternating[i] = i % 2 == 0 ? magnitude : -magnitude;
    rows.push_back(alternating);
  }
  // What a codebook has for a group may put one weight a level higher.
  const double reach = std::string(f.name).starts_with("IQ2") ? 1.75 : 1.35;
  const std::vector<float> importances[] = {{}, std::vector<float>(256, 1e30f), std::vector<float>(256, 1e-30f)};
  for (const auto& row : rows) {
    float largest = 0;
    for (const float v : row) largest = std::max(largest, std::abs(v));
    for (const auto& importance : importances) {
      for (const float w : round_trip(f, row, importance.empty() ? nullptr : importance.data())) {
        ASSERT_TRUE(std::isfinite(w)) << largest;
        ASSERT_LE(std::abs(w), reach * static_cast<double>(largest) + 1e-7) << largest;
      }
    }
  }
}

TEST(Encoders, SaturateWhereABinary16ScaleEnds) {
  const std::vector<float> huge(256, 1e30f);
  EXPECT_EQ(round_trip(format(Type::F16), huge)[0], 65504.0f);
  EXPECT_EQ(round_trip(format(Type::TQ2_0), huge)[0], 65504.0f);
  EXPECT_EQ(round_trip(format(Type::Q8_0), huge)[0], 127.0f * 65504.0f);
  EXPECT_GE(round_trip(format(Type::Q4_K), huge)[0], 15.0f * 63.0f * 65504.0f * 0.95f);
}

TEST(Encoders, TinyWeightsUseTheSmallestScalesThereAre) {
  // 2^-24 is the smallest binary16: weights of a few times that are still told apart from zero.
  std::vector<float> tiny(256);
  for (size_t i = 0; i < 256; ++i) tiny[i] = 0x1p-24f * static_cast<float>(static_cast<int>(i % 7) - 3);
  for (const Type type : {Type::Q8_0, Type::Q6_K, Type::Q5_0, Type::Q4_0}) {
    EXPECT_LT(relative_rmse(tiny, round_trip(format(type), tiny)), 0.1) << format(type).name;
  }
}

TEST(Encoders, KeepTernaryWeightsExactly) {
  std::mt19937 random(8);
  std::vector<float> x(512);
  for (float& v : x) v = 0.75f * static_cast<float>(static_cast<int>(random() % 3) - 1);
  EXPECT_EQ(round_trip(format(Type::TQ1_0), x), x);
  EXPECT_EQ(round_trip(format(Type::TQ2_0), x), x);
}

TEST_P(EveryEncoder, ImportanceLowersTheErrorWhereItIsHigh) {
  const Format& f = GetParam();
  const auto x = gaussian(256 * 50, 10);
  std::mt19937 random(11);
  std::vector<float> importance(x.size());
  for (float& v : importance) v = random() % 8 == 0 ? 100.0f : 1.0f;
  if (!f.quantized || f.type == Type::TQ1_0 || f.type == Type::TQ2_0) {
    EXPECT_EQ(encode(f, x, importance.data()), encode(f, x)) << "rounding and ternary codes leave nothing to choose";
    return;
  }
  const double with = squared_error(x, round_trip(f, x, importance.data()), importance.data());
  const double without = squared_error(x, round_trip(f, x), importance.data());
  EXPECT_LT(with, 0.97 * without);
}

TEST_P(EveryEncoder, ImportanceOfAllZeroCountsAsNone) {
  const auto x = gaussian(256, 12);
  const std::vector<float> zero(256, 0.0f);
  EXPECT_EQ(encode(GetParam(), x, zero.data()), encode(GetParam(), x));
}

TEST_P(EveryEncoder, OnlyTheRatiosOfImportanceMatter) {
  const auto x = gaussian(256, 13);
  auto importance = gaussian(256, 14, 1.0f);
  for (float& v : importance) v = v * v;
  const auto bytes = encode(GetParam(), x, importance.data());
  for (float& v : importance) v *= 0x1p40f;
  EXPECT_EQ(encode(GetParam(), x, importance.data()), bytes);
}

TEST_P(EveryEncoder, ScalingTheWeightsByAPowerOfTwoScalesTheResult) {
  const auto x = gaussian(256, 15);
  auto scaled = x;
  for (float& v : scaled) v *= 64.0f;
  auto expected = round_trip(GetParam(), x);
  const auto actual = round_trip(GetParam(), scaled);
  // A scale that was subnormal for x has more digits for 64 x.
  EXPECT_NEAR(relative_rmse(x, expected), relative_rmse(scaled, actual), 0.002);
}

}  // namespace
}  // namespace shoehorn::quant
