#include "quant/format.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <set>
#include <string>

#include "plain_decode.h"

namespace shoehorn::quant {
namespace {

std::vector<float> gaussian(size_t n, uint32_t seed, float sigma = 0.02f) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, sigma);
  std::vector<float> x(n);
  for (float& v : x) v = normal(random);
  return x;
}

/// Blocks of random bytes whose binary16 fields are all finite. Any other bytes are valid in every format.
std::vector<uint8_t> random_blocks(const Format& f, size_t n_blocks, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<uint8_t> bytes(n_blocks * f.block_bytes);
  for (;;) {
    for (uint8_t& b : bytes) b = static_cast<uint8_t>(random());
    bool finite = true;
    for (size_t i = 0; i < n_blocks * f.block_size && finite; ++i) {
      finite = std::isfinite(plain_weight(f.type, bytes.data() + i / f.block_size * f.block_bytes, i % f.block_size));
    }
    if (finite) return bytes;
  }
}

class EveryFormat : public testing::TestWithParam<Format> {};
INSTANTIATE_TEST_SUITE_P(Formats, EveryFormat, testing::ValuesIn(formats().begin(), formats().end()),
                         [](const auto& row) { return std::string(row.param.name); });

TEST_P(EveryFormat, DecodesRandomBlocksBitExactlyAsItsDefinitionSays) {
  const Format& f = GetParam();
  for (uint32_t seed = 0; seed < 50; ++seed) {
    const auto bytes = random_blocks(f, 2, seed);
    std::vector<float> decoded(2 * f.block_size);
    f.decode(bytes.data(), decoded.data(), decoded.size());
    for (size_t i = 0; i < decoded.size(); ++i) {
      const float expected = plain_weight(f.type, bytes.data() + i / f.block_size * f.block_bytes, i % f.block_size);
      ASSERT_EQ(decoded[i], expected) << "weight " << i << ", seed " << seed;
    }
  }
}

TEST_P(EveryFormat, DecodesFromAnUnalignedAddress) {
  const Format& f = GetParam();
  const auto bytes = random_blocks(f, 1, 7);
  std::vector<uint8_t> shifted(bytes.size() + 1);
  std::memcpy(shifted.data() + 1, bytes.data(), bytes.size());
  std::vector<float> a(f.block_size), b(f.block_size);
  f.decode(bytes.data(), a.data(), a.size());
  f.decode(shifted.data() + 1, b.data(), b.size());
  EXPECT_EQ(a, b);
}

TEST_P(EveryFormat, DotIsTheSumOverDecodedWeights) {
  const Format& f = GetParam();
  const size_t n = 768;
  const auto row = gaussian(n, 1), x = gaussian(n, 2, 1.0f);
  std::vector<uint8_t> bytes(row_bytes(f, n));
  f.encode(row.data(), nullptr, bytes.data(), n);
  std::vector<float> decoded(n);
  f.decode(bytes.data(), decoded.data(), n);
  double expected = 0, magnitude = 0;
  for (size_t i = 0; i < n; ++i) {
    expected += static_cast<double>(decoded[i]) * static_cast<double>(x[i]);
    magnitude += std::abs(static_cast<double>(decoded[i]) * static_cast<double>(x[i]));
  }
  EXPECT_NEAR(f.dot(bytes.data(), x.data(), n), expected, 1e-6 * magnitude);
}

TEST(FloatFormats, DotTakesAnyLength) {
  for (const Type type : {Type::F32, Type::F16, Type::BF16}) {
    const Format& f = format(type);
    const std::vector<float> row(19, 0.5f), x(19, 2.0f);
    std::vector<uint8_t> bytes(row_bytes(f, 19));
    f.encode(row.data(), nullptr, bytes.data(), 19);
    EXPECT_EQ(f.dot(bytes.data(), x.data(), 19), 19.0f) << f.name;
  }
}

TEST(FormatTable, SizesAreThoseOfGguf) {
  struct Size {
    const char* name;
    uint32_t id, block_size, block_bytes;
  };
  const Size expected[] = {
      {"F32", 0, 1, 4},         {"F16", 1, 1, 2},         {"BF16", 30, 1, 2},       {"Q4_0", 2, 32, 18},
      {"Q4_1", 3, 32, 20},      {"Q5_0", 6, 32, 22},      {"Q5_1", 7, 32, 24},      {"Q8_0", 8, 32, 34},
      {"Q2_K", 10, 256, 84},    {"Q3_K", 11, 256, 110},   {"Q4_K", 12, 256, 144},   {"Q5_K", 13, 256, 176},
      {"Q6_K", 14, 256, 210},   {"IQ4_NL", 20, 32, 18},   {"IQ4_XS", 23, 256, 136}, {"IQ1_S", 19, 256, 50},
      {"IQ1_M", 29, 256, 56},   {"IQ2_XXS", 16, 256, 66}, {"IQ2_XS", 17, 256, 74},  {"IQ2_S", 22, 256, 82},
      {"IQ3_XXS", 18, 256, 98}, {"IQ3_S", 21, 256, 110},  {"MXFP4", 39, 32, 17},    {"TQ1_0", 34, 256, 54},
      {"TQ2_0", 35, 256, 66}};
  ASSERT_EQ(formats().size(), std::size(expected));
  for (const Size& e : expected) {
    const Format* f = find_format(e.id);
    ASSERT_NE(f, nullptr) << e.name;
    EXPECT_STREQ(f->name, e.name);
    EXPECT_EQ(f->block_size, e.block_size) << e.name;
    EXPECT_EQ(f->block_bytes, e.block_bytes) << e.name;
    EXPECT_EQ(&format(f->type), f);
    EXPECT_EQ(f->quantized, f->block_size > 1);
  }
}

TEST(FormatTable, NamesAndIdsAreUniqueAndForeignOnesAreNotOurs) {
  std::set<std::string> names;
  std::set<uint32_t> ids;
  for (const Format& f : formats()) {
    EXPECT_TRUE(names.insert(f.name).second) << f.name;
    EXPECT_TRUE(ids.insert(static_cast<uint32_t>(f.type)).second) << f.name;
    EXPECT_EQ(foreign_type_name(static_cast<uint32_t>(f.type)), "") << f.name;
  }
}

TEST(FormatTable, FindsNamesInAnyCaseAndNothingElse) {
  EXPECT_EQ(find_format("q4_K"), &format(Type::Q4_K));
  EXPECT_EQ(find_format("bf16"), &format(Type::BF16));
  EXPECT_EQ(find_format("Q4_K_M"), nullptr);
  EXPECT_EQ(find_format(""), nullptr);
  EXPECT_EQ(find_format(4u), nullptr);
  EXPECT_EQ(find_format(64u), nullptr);
  EXPECT_EQ(find_format(0xffffffffu), nullptr);
}

TEST(FormatTable, NamesTheTypesItDoesNotImplement) {
  EXPECT_EQ(foreign_type_name(28), "F64");
  EXPECT_EQ(foreign_type_name(40), "NVFP4");
  EXPECT_EQ(foreign_type_name(1000), "");
}

TEST(FormatTable, RowBytesDoNotWrapForLongRows) {
  EXPECT_EQ(row_bytes(format(Type::Q4_K), 4096), 2304u);
  EXPECT_EQ(row_bytes(format(Type::F32), uint64_t{1} << 40), uint64_t{1} << 42);
}

std::vector<float> decode(Type type, const std::vector<uint8_t>& bytes, size_t n) {
  std::vector<float> out(n);
  format(type).decode(bytes.data(), out.data(), n);
  return out;
}

/// The codebooks are constants of the file format. FNV-1a of the floats that llama.cpp decodes from the same bytes.
TEST(Codebooks, DecodeToTheFloatsThatLlamaCppDecodesTo) {
  struct Case {
    Type type;
    uint64_t hash;
  };
  constexpr Case kCases[] = {{Type::IQ1_S, 0xebdb0afea75b71b5ull},   {Type::IQ1_M, 0x76b5f3f23951bf03ull},
                             {Type::IQ2_XXS, 0x8c1c11b0381db7caull}, {Type::IQ2_XS, 0xfe9e91d77b8cc836ull},
                             {Type::IQ2_S, 0xecc369018b26f596ull},   {Type::IQ3_XXS, 0xd000bf771b0e0bd4ull},
                             {Type::IQ3_S, 0xbcaeb7b3f10d5db8ull},   {Type::MXFP4, 0x6812aa83c5cd9e47ull}};
  for (const Case& c : kCases) {
    const Format& f = format(c.type);
    const size_t n = f.block_size == 256 ? 1000 : 100;
    std::vector<uint8_t> bytes(n * f.block_bytes);
    uint32_t state = 12345;
    for (uint8_t& b : bytes) {
      state = state * 1664525 + 1013904223;
      b = static_cast<uint8_t>(state >> 24);
    }
    for (size_t block = 0; block < n; ++block) {
      uint8_t* b = bytes.data() + block * f.block_bytes;
      // Scales below 2, or exponents of about 0: everything is finite.
      if (c.type == Type::MXFP4) {
        b[0] = static_cast<uint8_t>(96 + (b[0] & 63));
      } else {
        b[c.type == Type::IQ1_M ? 55 : 1] &= 0xbf;
      }
    }
    std::vector<float> decoded(n * f.block_size);
    f.decode(bytes.data(), decoded.data(), decoded.size());
    uint64_t hash = 14695981039346656037ull;
    for (const float w : decoded) {
      uint8_t raw[4];
      std::memcpy(raw, &w, 4);
      for (const uint8_t byte : raw) hash = (hash ^ byte) * 1099511628211ull;
    }
    EXPECT_EQ(hash, c.hash) << f.name;
  }
}

TEST(HandMadeBlocks, IQ2_XXS) {
  std::vector<uint8_t> block(66, 0);
  block[1] = 0x3c;          // d = 1
  block[2 + 8 + 1] = 1;     // weights 40..47: the entry 43, 8, 8, ...
  block[2 + 8 + 4] = 0x80;  // its lowest sign bit, the eighth overall of the field: weight 40 negative,
  block[2 + 8 + 7] = 0x30;  // and with it weight 47; scale of weights 32..63: 3
  const auto w = decode(Type::IQ2_XXS, block, 256);
  EXPECT_EQ(w[0], 1.0f);
  EXPECT_EQ(w[32], 7.0f);
  EXPECT_EQ(w[40], -7.0f / 8 * 43);
  EXPECT_EQ(w[41], 7.0f);
  EXPECT_EQ(w[47], -7.0f);
}

TEST(HandMadeBlocks, MXFP4) {
  std::vector<uint8_t> block(17, 0);
  block[0] = 128;   // 2
  block[3] = 0xf7;  // weight 2: 6, weight 18: -6
  const auto w = decode(Type::MXFP4, block, 32);
  EXPECT_EQ(w[2], 12.0f);
  EXPECT_EQ(w[18], -12.0f);
  EXPECT_EQ(w[0], 0.0f);
}

TEST(HandMadeBlocks, Q4_0) {
  std::vector<uint8_t> block(18, 0x88);  // all codes 8: zero
  block[0] = 0x00, block[1] = 0x38;      // d = 0.5
  block[2] = 0xf0;                       // weight 0: code 0, weight 16: code 15
  const auto w = decode(Type::Q4_0, block, 32);
  EXPECT_EQ(w[0], -4.0f);
  EXPECT_EQ(w[16], 3.5f);
  EXPECT_EQ(w[1], 0.0f);
}

TEST(HandMadeBlocks, Q5_1) {
  std::vector<uint8_t> block(24, 0);
  block[1] = 0x3c;       // d = 1
  block[3] = 0xc0;       // m = -2
  block[7] = 0x80;       // fifth bit of weight 31
  block[8 + 15] = 0x30;  // low bits of weight 31: 3
  const auto w = decode(Type::Q5_1, block, 32);
  EXPECT_EQ(w[31], 17.0f);
  EXPECT_EQ(w[30], -2.0f);
}

TEST(HandMadeBlocks, Q3_K) {
  std::vector<uint8_t> block(110, 0);
  block[109] = 0x3c;      // d = 1
  block[96 + 1] = 0x05;   // scale 1: low bits 5
  block[104 + 1] = 0x03;  // its high bits 3: 48 + 5 - 32 = 21
  block[16] = 0x01;       // third bit of weight 16
  block[32 + 16] = 0x02;  // low bits of weight 16: q = 4 + 2 - 4 = 2
  const auto w = decode(Type::Q3_K, block, 256);
  EXPECT_EQ(w[16], 42.0f);
  EXPECT_EQ(w[17], -84.0f);
  EXPECT_EQ(w[0], 128.0f);  // scale 0 is -32, q is -4
}

TEST(HandMadeBlocks, Q4_K) {
  std::vector<uint8_t> block(144, 0);
  block[1] = 0x3c;            // d = 1
  block[3] = 0x38;            // dmin = 0.5
  block[4 + 1] = 0x40 | 7;    // scale 1 = 7, and 16 for scale 5
  block[4 + 5] = 0x80 | 4;    // min 1 = 4, and 32 for min 5
  block[4 + 9] = 0x21;        // scale 5 = 16 + 1, min 5 = 32 + 2
  block[16 + 2] = 0xa0;       // weight 34 (sub-block 1): code 10
  block[16 + 64 + 3] = 0x30;  // weight 128 + 32 + 3 (sub-block 5): code 3
  const auto w = decode(Type::Q4_K, block, 256);
  EXPECT_EQ(w[34], 70.0f - 2.0f);
  EXPECT_EQ(w[163], 51.0f - 17.0f);
  EXPECT_EQ(w[164], -17.0f);
  EXPECT_EQ(w[0], 0.0f);
}

TEST(HandMadeBlocks, Q6_K) {
  std::vector<uint8_t> block(210, 0);
  block[209] = 0x3c;           // d = 1
  block[192 + 14] = 0xff;      // scale of weights 224..239: -1
  block[64 + 33] = 0x50;       // weight 128 + 96 + 1: low bits 5
  block[128 + 32 + 1] = 0x80;  // its high bits 2
  const auto w = decode(Type::Q6_K, block, 256);
  EXPECT_EQ(w[225], -(32.0f + 5.0f - 32.0f));
  EXPECT_EQ(w[226], 32.0f);
}

TEST(HandMadeBlocks, TQ1_0) {
  std::vector<uint8_t> block(54, 0);
  block[53] = 0x3c;  // d = 1
  // trits 2, 0, 1, 0, 2: 2*81 + 1*9 + 2 = 173; ceil(173 * 256 / 243) = 183
  block[4] = 183;
  block[48 + 2] = 183;  // the same in the four-trit bytes
  const auto w = decode(Type::TQ1_0, block, 256);
  EXPECT_EQ(w[4], 1.0f);
  EXPECT_EQ(w[36], -1.0f);
  EXPECT_EQ(w[68], 0.0f);
  EXPECT_EQ(w[100], -1.0f);
  EXPECT_EQ(w[132], 1.0f);
  EXPECT_EQ(w[242], 1.0f);
  EXPECT_EQ(w[254], -1.0f);
}

}  // namespace
}  // namespace shoehorn::quant
