#include "io/dtype.h"

#include <cmath>
#include <limits>
#include <vector>

#include "io_support.h"

namespace shoehorn::io {
namespace {

using test::raw_array;

std::vector<float> decode(DType dtype, const std::string& bytes) {
  // One byte in front: checkpoints promise no alignment.
  const std::string shifted = "x" + bytes;
  const uint64_t n = bytes.size() / dtype_info(dtype).bytes;
  std::vector<float> out(n);
  decode_floats(dtype, reinterpret_cast<const std::byte*>(shifted.data()) + 1, n, out.data());
  return out;
}

TEST(DType, NamesAndSizesAreSafetensors) {
  const std::pair<const char*, uint32_t> expected[] = {
      {"F64", 8}, {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"I64", 8}, {"I32", 4},
      {"I16", 2}, {"I8", 1},  {"U64", 8}, {"U32", 4},  {"U16", 2},     {"U8", 1},      {"BOOL", 1}};
  for (const auto& [name, bytes] : expected) {
    const auto dtype = dtype_from_name(name);
    ASSERT_TRUE(dtype.has_value()) << name;
    EXPECT_EQ(dtype_info(*dtype).dtype, *dtype);
    EXPECT_STREQ(dtype_info(*dtype).name, name);
    EXPECT_EQ(dtype_info(*dtype).bytes, bytes) << name;
    EXPECT_EQ(dtype_info(*dtype).floating, name[0] == 'F' || name[0] == 'B' ? std::string(name) != "BOOL" : false);
  }
  EXPECT_FALSE(dtype_from_name("F4").has_value());
  EXPECT_FALSE(dtype_from_name("bf16").has_value());
  EXPECT_FALSE(dtype_from_name("").has_value());
}

TEST(DType, WideFloatsAreReadUnaligned) {
  EXPECT_EQ(decode(DType::F32, raw_array<float>({1.5f, -2e30f})), (std::vector<float>{1.5f, -2e30f}));
  EXPECT_EQ(decode(DType::F64, raw_array<double>({1.5, 0.1})), (std::vector<float>{1.5f, 0.1f}));
  EXPECT_EQ(decode(DType::F16, raw_array<uint16_t>({0x3c00, 0xc000, 0x0001, 0x7c00})),
            (std::vector<float>{1.0f, -2.0f, 0x1p-24f, INFINITY}));
  EXPECT_EQ(decode(DType::BF16, raw_array<uint16_t>({0x3f80, 0xc000, 0x0001})),
            (std::vector<float>{1.0f, -2.0f, 0x1p-133f}));
}

// The tables of "FP8 Formats for Deep Learning" (Micikevicius et al. 2022), section 3.
TEST(DType, E4M3HasNoInfinityAndReaches448) {
  const auto at = [](uint8_t bits) { return decode(DType::F8_E4M3, raw_array<uint8_t>({bits}))[0]; };
  EXPECT_EQ(at(0x00), 0.0f);
  EXPECT_TRUE(std::signbit(at(0x80)));
  EXPECT_EQ(at(0x01), 0x1p-9f);           // smallest subnormal
  EXPECT_EQ(at(0x07), 0.875f * 0x1p-6f);  // largest subnormal
  EXPECT_EQ(at(0x08), 0x1p-6f);           // smallest normal
  EXPECT_EQ(at(0x38), 1.0f);
  EXPECT_EQ(at(0xb9), -1.125f);
  EXPECT_EQ(at(0x7e), 448.0f);
  EXPECT_TRUE(std::isnan(at(0x7f)));
  EXPECT_TRUE(std::isnan(at(0xff)));
}

TEST(DType, E5M2IsTheUpperByteOfHalf) {
  for (unsigned bits = 0; bits < 256; ++bits) {
    const float expected = decode(DType::F16, raw_array<uint16_t>({static_cast<uint16_t>(bits << 8)}))[0];
    const float value = decode(DType::F8_E5M2, raw_array<uint8_t>({static_cast<uint8_t>(bits)}))[0];
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(value)) << bits;
    } else {
      EXPECT_EQ(value, expected) << bits;
      EXPECT_EQ(std::signbit(value), std::signbit(expected)) << bits;
    }
  }
}

TEST(DType, E4M3IncreasesWithItsBits) {
  for (unsigned bits = 1; bits < 0x7f; ++bits) {
    EXPECT_LT(decode(DType::F8_E4M3, raw_array<uint8_t>({static_cast<uint8_t>(bits - 1)}))[0],
              decode(DType::F8_E4M3, raw_array<uint8_t>({static_cast<uint8_t>(bits)}))[0]);
  }
}

TEST(DType, EncodingRoundsToNearestEven) {
  const float values[] = {1.0f + 0x1p-11f, 1.0f + 3 * 0x1p-11f, 1.0f + 3 * 0x1p-8f, 65520.0f, -0.0f};
  std::vector<std::byte> half(10), brain(10);
  encode_floats(DType::F16, values, 5, half.data());
  encode_floats(DType::BF16, values, 5, brain.data());
  std::vector<float> out(5);
  decode_floats(DType::F16, half.data(), 5, out.data());
  EXPECT_EQ(out, (std::vector<float>{1.0f, 1.0f + 0x1p-9f, 1.0f + 3 * 0x1p-8f, INFINITY, -0.0f}));
  decode_floats(DType::BF16, brain.data(), 5, out.data());
  EXPECT_EQ(out, (std::vector<float>{1.0f, 1.0f, 1.0f + 0x1p-6f, 65536.0f, -0.0f}));
}

}  // namespace
}  // namespace shoehorn::io
