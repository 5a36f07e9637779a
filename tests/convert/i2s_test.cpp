// bitnet.cpp's I2_S files: the same weights as TQ2_0, whichever machine wrote them.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "convert/gguf_output.h"
#include "convert/model_source.h"
#include "io/gguf.h"
#include "io/i2s.h"
#include "quant/format.h"
#include "support/running_model.h"
#include "support/support.h"
#include "support/tiny_checkpoint.h"

namespace shoehorn {
namespace {

using io::I2sLayout;

/// As bitnet.cpp's quantize_i2_s has it, from codes 0, 1, 2 for -1, 0, 1.
std::vector<std::byte> pack(const std::vector<uint8_t>& codes, float scale, I2sLayout layout) {
  const size_t block = layout == I2sLayout::kX86 ? 128 : 64, stride = block / 4;
  std::vector<std::byte> out(codes.size() / 4 + 32);
  for (size_t i = 0; i < codes.size() / block; ++i) {
    for (size_t j = 0; j < block; ++j) out[i * stride + j % stride] |= static_cast<std::byte>(codes[i * block + j] << (6 - 2 * (j / stride)));
  }
  std::memcpy(out.data() + codes.size() / 4, &scale, sizeof scale);
  return out;
}

std::vector<uint8_t> some_codes(size_t n) {
  std::mt19937 random(3);
  std::vector<uint8_t> codes(n);
  for (uint8_t& code : codes) code = static_cast<uint8_t>(random() % 3);
  return codes;
}

struct WithLayout {
  explicit WithLayout(I2sLayout layout) { io::set_i2s_layout(layout); }
  ~WithLayout() { io::set_i2s_layout(std::nullopt); }
};

TEST(I2s, EveryWeightIsWhereTheMachineHadIt) {
  const auto codes = some_codes(3 * 256);
  for (const I2sLayout layout : {I2sLayout::kX86, I2sLayout::kArm}) {
    ASSERT_EXPECTED(const auto blocks, io::i2s_to_tq2_0(pack(codes, 0.375f, layout), codes.size(), layout));
    std::vector<float> weights(codes.size());
    quant::format(quant::Type::TQ2_0).decode(blocks.data(), weights.data(), weights.size());
    for (size_t i = 0; i < codes.size(); ++i) ASSERT_EQ(weights[i], 0.375f * (static_cast<float>(codes[i]) - 1)) << i;
  }
  // Golden bytes: weight 0 is the top bits of byte 0; weight 32 (x86) or 16 (ARM) the next ones.
  std::vector<uint8_t> one(256, 1);
  one[0] = 2, one[16] = 0, one[32] = 0;
  EXPECT_EQ(pack(one, 1, I2sLayout::kX86)[0], std::byte{0b10'00'01'01});
  EXPECT_EQ(pack(one, 1, I2sLayout::kX86)[16], std::byte{0b00'01'01'01});
  EXPECT_EQ(pack(one, 1, I2sLayout::kArm)[0], std::byte{0b10'00'00'01});
}

TEST(I2s, WhatIsNoneIsRefused) {
  const auto refused = [](std::vector<std::byte> data) {
    const auto blocks = io::i2s_to_tq2_0(data, 256, I2sLayout::kX86);
    return blocks ? std::string() : blocks.error().message;
  };
  auto data = pack(some_codes(256), 1, I2sLayout::kX86);
  data[5] |= std::byte{0b11'00'00'00};
  EXPECT_EQ(refused(data), "weight 5 has code 3, which I2_S does not");
  EXPECT_EQ(refused(pack(some_codes(256), NAN, I2sLayout::kX86)), "its scale is nan");
  EXPECT_EQ(refused(pack(some_codes(256), 1e9f, I2sLayout::kX86)), "its scale is 1000000000");
}

void put(std::string& out, auto value) { out.append(reinterpret_cast<const char*>(&value), sizeof value); }

/// A file of TQ2_0 tensors as bitnet.cpp would have written it. Every tensor has one scale.
std::string as_i2s(const std::string& path, I2sLayout layout) {
  const std::string bytes = test::read_text(path);
  const auto file = io::GgufFile::open(path);
  if (!file) std::abort();
  const std::string first = file->tensors().front().name;
  std::string marker;
  put(marker, static_cast<uint64_t>(first.size()));
  std::string out = bytes.substr(0, bytes.find(marker + first)), data;
  for (const io::GgufTensor& tensor : file->tensors()) {
    const bool ternary = tensor.type == quant::Type::TQ2_0;
    put(out, static_cast<uint64_t>(tensor.name.size()));
    out += tensor.name;
    put(out, static_cast<uint32_t>(tensor.shape.size()));
    for (const uint64_t dim : tensor.shape) put(out, dim);
    put(out, ternary ? io::kI2sId : static_cast<uint32_t>(tensor.type));
    put(out, static_cast<uint64_t>(data.size()));
    std::vector<std::byte> stored(tensor.data.begin(), tensor.data.end());
    if (ternary) {
      std::vector<float> weights(tensor.n_elements());
      quant::format(tensor.type).decode(tensor.data.data(), weights.data(), weights.size());
      float scale = 0;
      for (const float w : weights) scale = std::max(scale, std::abs(w));
      std::vector<uint8_t> codes;
      for (const float w : weights) codes.push_back(w == 0 ? 1 : w > 0 ? 2 : 0);
      stored = pack(codes, scale, layout);
    }
    data.append(reinterpret_cast<const char*>(stored.data()), stored.size());
    data.resize((data.size() + 31) / 32 * 32);
  }
  out.resize((out.size() + 31) / 32 * 32);
  const std::string written = test::temp_dir() + "/ggml-model-i2_s.gguf";
  test::write_text(written, out + data);
  return written;
}

/// Ternary weights with one scale a matrix.
std::string ternary_checkpoint() {
  Json config = test::tiny_config();
  config["hidden_size"] = 256, config["intermediate_size"] = 512, config["num_hidden_layers"] = 2;
  config = test::as_architecture(config, "BitNetForCausalLM");
  auto checkpoint = test::make_tiny_checkpoint(config);
  for (auto& [name, values] : checkpoint.weights) {
    if (name.find("proj.weight") == std::string::npos) continue;
    for (float& v : values) v = v > 0.05f ? 0.0625f : v < -0.05f ? -0.0625f : 0.0f;
  }
  return test::write_checkpoint(checkpoint);
}

TEST(I2s, AFileOfBitnetCppIsTheFileOfTq2) {
  const std::string exact = test::to_gguf(ternary_checkpoint(), "TQ2_0");
  for (const I2sLayout layout : {I2sLayout::kX86, I2sLayout::kArm}) {
    const std::string theirs = as_i2s(exact, layout);
    const auto refused = io::GgufFile::open(theirs);
    ASSERT_FALSE(refused.has_value());
    EXPECT_NE(refused.error().message.find("--i2s-layout x86 or arm"), std::string::npos) << refused.error().message;

    const WithLayout with(layout);
    NoProgress progress;
    ASSERT_EXPECTED(const auto source, convert::ModelSource::open(theirs, progress));
    convert::OutputOptions options;
    options.mix = quant::find_mix("TQ2_0");
    const std::string ours = test::temp_dir() + "/tq2_0.gguf";
    ASSERT_EXPECTED(const auto report, convert::write_gguf(source, ours, options, progress));
    io::set_i2s_layout(std::nullopt);
    ASSERT_EXPECTED(const auto expected, io::GgufFile::open(exact));
    ASSERT_EXPECTED(const auto file, io::GgufFile::open(ours));
    size_t n_ternary = 0;
    for (const io::GgufTensor& tensor : expected.tensors()) {
      const io::GgufTensor* found = file.find(tensor.name);
      ASSERT_NE(found, nullptr) << tensor.name;
      EXPECT_EQ(found->type, tensor.type) << tensor.name;
      EXPECT_TRUE(std::ranges::equal(found->data, tensor.data)) << tensor.name;
      n_ternary += tensor.type == quant::Type::TQ2_0 ? 1 : 0;
    }
    EXPECT_EQ(n_ternary, 12u) << "rows of attention outputs are shorter than a block";
  }
}

}  // namespace
}  // namespace shoehorn
