#include "convert/check.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <random>

#include "convert/gguf_output.h"
#include "support/running_model.h"
#include "support/support.h"
#include "support/tiny_checkpoint.h"

namespace shoehorn::convert {
namespace {

namespace fs = std::filesystem;

Expected<CheckResult> check(const std::string& path, const std::string& source = "", const std::string& manifest = "") {
  NoProgress progress;
  return check_model(path, {.manifest = manifest, .source = source, .n_threads = 2}, progress);
}

/// A whole model in a few KB.
std::string smallest_gguf() {
  Json config = test::tiny_config();
  config["vocab_size"] = 260;
  config["hidden_size"] = 4;
  config["head_dim"] = 2;
  config["num_attention_heads"] = 2;
  config["num_key_value_heads"] = 1;
  config["num_hidden_layers"] = 1;
  config["intermediate_size"] = 4;
  const auto checkpoint = test::make_tiny_checkpoint(config);
  return test::to_gguf(checkpoint.directory, "F16");
}

TEST(CheckModel, EveryTruncationIsAnErrorThatNamesTheFile) {
  const auto bytes = test::read_bytes(smallest_gguf());
  const std::string path = test::temp_dir() + "/cut.gguf";
  for (size_t size = 0; size < bytes.size(); size += size < 1500 ? 1 : 29) {
    test::write_bytes(path, {bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size)});
    const auto result = check(path);
    // The padding after the last tensor carries nothing.
    if (result.has_value()) {
      EXPECT_GE(size + 32, bytes.size());
    } else {
      EXPECT_NE(result.error().message.find(path), std::string::npos) << result.error().message;
    }
  }
}

TEST(CheckModel, RandomDamageNeverCrashes) {
  const auto bytes = test::read_bytes(smallest_gguf());
  const std::string path = test::temp_dir() + "/damaged.gguf";
  std::mt19937 random(5);
  int refused = 0;
  for (int round = 0; round < 600; ++round) {
    auto damaged = bytes;
    // Mostly in the header, where structure lives.
    const size_t range = round % 3 == 0 ? damaged.size() : std::min<size_t>(damaged.size(), 6000);
    for (int flips = 0; flips < 1 + round % 4; ++flips)
      damaged[random() % range] ^= static_cast<std::byte>(1u << (random() % 8));
    test::write_bytes(path, damaged);
    refused += check(path).has_value() ? 0 : 1;
  }
  EXPECT_GT(refused, 50);
}

TEST(CheckModel, FindsNanInAGguf) {
  const std::string path = smallest_gguf();
  auto bytes = test::read_bytes(path);
  ASSERT_EXPECTED(const auto file, io::GgufFile::open(path));
  const auto& data = file.find("blk.0.ffn_up.weight")->data;
  const auto offset = static_cast<size_t>(data.data() - file.find("blk.0.ffn_up.weight")->file->bytes().data());
  bytes[offset] = std::byte{0};
  bytes[offset + 1] = std::byte{0x7e};
  const std::string bad = test::temp_dir() + "/nan.gguf";
  test::write_bytes(bad, bytes);
  const auto result = check(bad);
  ASSERT_FALSE(result.has_value());
  EXPECT_NE(result.error().message.find("blk.0.ffn_up.weight"), std::string::npos);
}

/// Copies a GGUF as another program would: the metadata as it is, tensors after a change.
std::string copy_gguf(const std::string& path, const std::function<void(std::vector<io::GgufTensor>&)>& change_order,
                      const std::function<void(const io::GgufTensor&, std::vector<std::byte>&)>& change_bytes,
                      quant::Type (*type_of)(const io::GgufTensor&) = nullptr) {
  auto file = io::GgufFile::open(path);
  EXPECT_TRUE(file.has_value());
  std::vector<io::GgufTensor> tensors = file->tensors();
  if (change_order) change_order(tensors);
  io::GgufWriter writer;
  writer.metadata() = file->metadata();
  const auto type = [&](const io::GgufTensor& t) { return type_of != nullptr ? type_of(t) : t.type; };
  for (const auto& t : tensors) EXPECT_TRUE(writer.add_tensor(t.name, type(t), t.shape).has_value());
  const std::string out = test::temp_dir() + "/copy.gguf";
  EXPECT_TRUE(writer.begin(out).has_value());
  for (const auto& t : tensors) {
    std::vector<std::byte> bytes(t.data.begin(), t.data.end());
    if (type(t) != t.type) {
      std::vector<float> values(t.n_elements());
      quant::format(t.type).decode(t.data.data(), values.data(), values.size());
      bytes.resize(quant::row_bytes(quant::format(type(t)), values.size()));
      quant::format(type(t)).encode(values.data(), nullptr, bytes.data(), values.size());
    }
    if (change_bytes) change_bytes(t, bytes);
    EXPECT_TRUE(writer.append(bytes).has_value());
  }
  EXPECT_TRUE(writer.commit().has_value());
  return out;
}

void expect_refused(const Expected<CheckResult>& result, const std::vector<std::string>& parts) {
  ASSERT_FALSE(result.has_value());
  for (const std::string& part : parts) {
    EXPECT_NE(result.error().message.find(part), std::string::npos)
        << "\"" << part << "\" in: " << result.error().message;
  }
}

TEST(CheckModel, HashesTellEveryChangedByte) {
  const std::string path = smallest_gguf();
  ASSERT_EXPECTED(const auto good, check(path));
  EXPECT_EQ(good.compared_to, io::kTensorHashes);
  EXPECT_EQ(good.same, good.tensors);
  EXPECT_EQ(good.hashes.tensors.size(), good.tensors);
  ASSERT_EXPECTED(const auto file, io::GgufFile::open(path));
  for (const io::GgufTensor& changed : file.tensors()) {
    const std::string copy = copy_gguf(path, nullptr, [&](const io::GgufTensor& t, std::vector<std::byte>& bytes) {
      if (t.name == changed.name) bytes.back() ^= std::byte{1};
    });
    expect_refused(check(copy), {copy, changed.name, "its bytes were changed"});
  }
}

TEST(CheckModel, HashesAreThoseOfTheBytes) {
  const std::string path = smallest_gguf();
  ASSERT_EXPECTED(const auto file, io::GgufFile::open(path));
  ASSERT_EXPECTED(const auto hashes, io::tensor_hashes(file.metadata()));
  ASSERT_EQ(hashes.size(), file.tensors().size());
  for (size_t i = 0; i < hashes.size(); ++i) {
    EXPECT_EQ(hashes[i].sha256, sha256_of(file.tensors()[i].data));
    EXPECT_EQ(hashes[i].name, file.tensors()[i].name);
  }
}

TEST(CheckModel, AFileThatAnotherProgramMadeOfOursIsNotCalledAltered) {
  const std::string path = smallest_gguf();
  const std::string copy = copy_gguf(path, nullptr, nullptr, [](const io::GgufTensor& t) {
    return t.name == "blk.0.ffn_up.weight" ? quant::Type::BF16 : t.type;
  });
  ASSERT_EXPECTED(const auto result, check(copy));
  EXPECT_EQ(result.rewritten, 1u);
  EXPECT_EQ(result.same, result.tensors - 1);
  // Made by us again, it has hashes of its own.
  ASSERT_EXPECTED(const auto again, check(test::to_gguf(copy, "F32")));
  EXPECT_EQ(again.same, again.tensors);
}

TEST(CheckModel, MalformedHashesAreErrors) {
  const std::string path = smallest_gguf();
  const std::string none(64, '0');
  const std::vector<std::pair<std::vector<std::string>, const char*>> cases = {
      {{"x F16 blk.0.ffn_up.weight"}, "[0]: not a SHA-256"},
      {{none}, "[0]: not a SHA-256"},
      {{none + " F16 a", none + " F16 a"}, "tensor a appears twice"},
      {{none + " F16 nothing.weight"}, "has no hash of it"},
  };
  for (const auto& [lines, reason] : cases) {
    auto file = io::GgufFile::open(path);
    ASSERT_TRUE(file.has_value());
    io::GgufWriter writer;
    writer.metadata() = file->metadata();
    writer.set(io::kTensorHashes, io::GgufArray(lines));
    for (const auto& t : file->tensors()) ASSERT_TRUE(writer.add_tensor(t.name, t.type, t.shape).has_value());
    const std::string out = test::temp_dir() + "/bad.gguf";
    ASSERT_TRUE(writer.begin(out).has_value());
    for (const auto& t : file->tensors()) ASSERT_TRUE(writer.append(t.data).has_value());
    ASSERT_TRUE(writer.commit().has_value());
    expect_refused(check(out), {out, reason});
  }
}

TEST(CheckModel, AManifestIsWrittenAndBelieved) {
  const auto checkpoint = test::make_tiny_checkpoint(test::tiny_config());
  for (const std::string& model : {checkpoint.directory, smallest_gguf()}) {
    ASSERT_EXPECTED(const auto first, check(model));
    const std::string manifest = model + ".manifest";
    ASSERT_TRUE(io::write_manifest(first.hashes, fs::path(model).filename().string(), manifest).has_value());
    ASSERT_EXPECTED(const auto second, check(model));
    EXPECT_EQ(second.compared_to, manifest);
    EXPECT_EQ(second.same, second.hashes.tensors.size());

    io::Manifest other = first.hashes;
    other.tensors[0].sha256[5] = other.tensors[0].sha256[5] == 'a' ? 'b' : 'a';
    ASSERT_TRUE(io::write_manifest(other, "m", manifest).has_value());
    expect_refused(check(model), {model, other.tensors[0].name, manifest, "its bytes were changed"});
    other = first.hashes;
    other.tensors.push_back({other.all, "", "one.more"});
    ASSERT_TRUE(io::write_manifest(other, "m", manifest).has_value());
    expect_refused(check(model), {model, "hashes of " + std::to_string(other.tensors.size()) + " tensors"});
    other = first.hashes;
    other.tensors.pop_back();
    ASSERT_TRUE(io::write_manifest(other, "m", manifest).has_value());
    expect_refused(check(model), {model, "has no hash of it"});
    test::write_text(manifest, "sha1  1234  m:a\n");
    expect_refused(check(model), {manifest, "there is no SHA-256 in it"});
    test::write_text(manifest, "sha256  1234  m:a\n");
    expect_refused(check(model), {manifest, "line 1"});
    fs::remove(manifest);
  }
}

/// Two layers whose matrices are of the same shapes.
std::string source_checkpoint() {
  Json config = test::tiny_config();
  config["hidden_size"] = 256;
  config["head_dim"] = 64;
  config["intermediate_size"] = 512;
  return test::make_tiny_checkpoint(config).directory;
}

TEST(CheckModel, ASourcesTensorsAreRecognizedUnderEveryType) {
  const std::string source = source_checkpoint();
  for (const char* mix :
       {"F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_K_M", "Q3_K_M", "Q2_K", "IQ4_XS", "IQ3_XXS", "TQ2_0"}) {
    SCOPED_TRACE(mix);
    ASSERT_EXPECTED(const auto result, check(test::to_gguf(source, mix), source));
    EXPECT_EQ(result.differences.size(), result.tensors);
    for (const auto& d : result.differences) {
      EXPECT_LE(d.error, 1.05 * d.usual) << d.name;
      EXPECT_TRUE(d.type != "F32" || d.error == 0) << d.name;
    }
  }
}

TEST(CheckModel, WhatIsNotTheSourcesIsNamed) {
  const std::string source = source_checkpoint();
  const std::string path = test::to_gguf(source, "Q2_K");
  // Two tensors that took each other's place, in a file of hashes that say so.
  const std::string swapped = copy_gguf(
      path,
      [](std::vector<io::GgufTensor>& tensors) {
        const auto of = [&](const char* name) { return std::ranges::find(tensors, name, &io::GgufTensor::name); };
        std::swap(of("blk.0.ffn_gate.weight")->data, of("blk.1.ffn_gate.weight")->data);
      },
      nullptr);
  expect_refused(check(swapped), {"its bytes were changed"});
  // Whoever changes tensors can change hashes; the source tells.
  auto file = io::GgufFile::open(swapped);
  ASSERT_TRUE(file.has_value());
  io::GgufWriter writer;
  writer.metadata() = file->metadata();
  for (const auto& t : file->tensors()) ASSERT_TRUE(writer.add_tensor(t.name, t.type, t.shape).has_value());
  writer.hash_tensors();
  const std::string laundered = test::temp_dir() + "/laundered.gguf";
  ASSERT_TRUE(writer.begin(laundered).has_value());
  for (const auto& t : file->tensors()) ASSERT_TRUE(writer.append(t.data).has_value());
  ASSERT_TRUE(writer.commit().has_value());
  EXPECT_TRUE(check(laundered).has_value());
  expect_refused(check(laundered, source), {laundered, source, "are not", "blk.0.ffn_gate.weight"});
  Json config = test::tiny_config();
  config["vocab_size"] = 320;
  expect_refused(check(path, test::make_tiny_checkpoint(config).directory), {"tokenizer.ggml.tokens is not that of"});
  expect_refused(check(path, test::make_tiny_checkpoint(test::tiny_config()).directory), {"is of shape"});
}

}  // namespace
}  // namespace shoehorn::convert
