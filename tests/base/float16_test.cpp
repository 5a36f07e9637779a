#include "base/float16.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace shoehorn {
namespace {

/// A 16-bit float with `exponent_bits` and `mantissa_bits`, by definition.
double value_of(uint32_t bits, int exponent_bits, int mantissa_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1, max_exponent = (1 << exponent_bits) - 1;
  const int exponent = static_cast<int>((bits >> mantissa_bits) & static_cast<uint32_t>(max_exponent));
  const int mantissa = static_cast<int>(bits & ((1u << mantissa_bits) - 1));
  const double sign = (bits & 0x8000) != 0 ? -1.0 : 1.0;
  if (exponent == max_exponent) return mantissa == 0 ? sign * INFINITY : NAN;
  if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias - mantissa_bits);
  return sign * std::ldexp(mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits);
}

/// Round to nearest, ties to even, of a finite non-negative x: its unit in the last place decides.
double rounded(double x, int min_exponent, int mantissa_bits, double max_finite) {
  int exponent;
  std::frexp(x, &exponent);
  const int ulp = std::max(exponent - 1, min_exponent) - mantissa_bits;
  const double scaled = std::ldexp(x, -ulp);
  double down = std::floor(scaled);
  const double rest = scaled - down;
  if (rest > 0.5 || (rest == 0.5 && std::fmod(down, 2.0) != 0)) down += 1;
  const double result = std::ldexp(down, ulp);
  return result > max_finite ? INFINITY : result;
}

double half_rounded(float f) { return std::copysign(rounded(std::fabs(double{f}), -14, 10, 65504.0), f); }
double brain_rounded(float f) {
  return std::copysign(rounded(std::fabs(double{f}), -126, 7, double{std::bit_cast<float>(0x7f7f0000u)}), f);
}

TEST(Float16, EveryHalfDecodesToItsValue) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const double expected = value_of(bits, 5, 10);
    const float value = fp16_to_fp32(static_cast<uint16_t>(bits));
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(value)) << bits;
    } else {
      ASSERT_EQ(double{value}, expected) << bits;
    }
    ASSERT_EQ(std::signbit(value), (bits & 0x8000) != 0) << bits;
  }
}

TEST(Float16, EveryBrainFloatDecodesToItsValue) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const double expected = value_of(bits, 8, 7);
    const float value = bf16_to_fp32(static_cast<uint16_t>(bits));
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(value)) << bits;
    } else {
      ASSERT_EQ(double{value}, expected) << bits;
    }
  }
}

TEST(Float16, EveryValueSurvivesARoundTrip) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const auto h = static_cast<uint16_t>(bits);
    if (const float half = fp16_to_fp32(h); std::isnan(half)) {
      ASSERT_TRUE(std::isnan(fp16_to_fp32(fp32_to_fp16(half)))) << bits;
    } else {
      ASSERT_EQ(fp32_to_fp16(half), h);
    }
    if (const float brain = bf16_to_fp32(h); std::isnan(brain)) {
      ASSERT_TRUE(std::isnan(bf16_to_fp32(fp32_to_bf16(brain)))) << bits;
    } else {
      ASSERT_EQ(fp32_to_bf16(brain), h);
    }
  }
}

void expect_rounding(float f) {
  ASSERT_EQ(double{fp16_to_fp32(fp32_to_fp16(f))}, half_rounded(f)) << std::hexfloat << f;
  ASSERT_EQ(double{bf16_to_fp32(fp32_to_bf16(f))}, brain_rounded(f)) << std::hexfloat << f;
  ASSERT_EQ(std::signbit(fp16_to_fp32(fp32_to_fp16(f))), std::signbit(f));
  ASSERT_EQ(std::signbit(bf16_to_fp32(fp32_to_bf16(f))), std::signbit(f));
}

TEST(Float16, RoundsToNearestEvenAroundEveryValueAndTie) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    for (const uint32_t base : {std::bit_cast<uint32_t>(fp16_to_fp32(static_cast<uint16_t>(bits))), bits << 16}) {
      // The neighbours of the value, and of the middle to the next one, for both formats' mantissa lengths.
      for (const uint32_t middle : {0u, 1u << 12, 1u << 15}) {
        for (const uint32_t step : {UINT32_MAX, 0u, 1u}) {
          const float f = std::bit_cast<float>(base + middle + step);
          if (std::isfinite(f)) expect_rounding(f);
        }
      }
    }
  }
}

TEST(Float16, RoundsRandomFloats) {
  std::mt19937 rng(1);
  for (int i = 0; i < 1'000'000; ++i) {
    if (const float f = std::bit_cast<float>(static_cast<uint32_t>(rng())); std::isfinite(f)) expect_rounding(f);
    // Half's subnormals, where few random floats fall.
    expect_rounding(std::ldexp(static_cast<float>(rng()), -32 - 14 - static_cast<int>(rng() % 14)));
  }
}

TEST(Float16, SpecialValuesStaySpecial) {
  const float nan_low_bits = std::bit_cast<float>(0x7f800001u);  // its payload is lost in 16 bits
  EXPECT_TRUE(std::isnan(fp16_to_fp32(fp32_to_fp16(nan_low_bits))));
  EXPECT_TRUE(std::isnan(bf16_to_fp32(fp32_to_bf16(nan_low_bits))));
  EXPECT_EQ(fp16_to_fp32(fp32_to_fp16(-INFINITY)), -INFINITY);
  EXPECT_EQ(bf16_to_fp32(fp32_to_bf16(INFINITY)), INFINITY);
  EXPECT_EQ(fp16_to_fp32(fp32_to_fp16(65519.996f)), 65504.0f);
  EXPECT_EQ(fp16_to_fp32(fp32_to_fp16(65520.0f)), INFINITY);
}

}  // namespace
}  // namespace shoehorn
