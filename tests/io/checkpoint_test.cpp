#include "io/checkpoint.h"

#include <cmath>
#include <filesystem>

#include "base/json.h"
#include "io/safetensors.h"
#include "torch_fixture.h"

namespace shoehorn::io {
namespace {

/// A directory with two safetensors shards of one tensor each, and their index.
std::string sharded_dir() {
  const std::string dir = test::temp_dir();
  SafetensorsWriter writer;
  EXPECT_TRUE(writer.add_tensor("model.norm.weight", DType::F32, {4}).has_value());
  EXPECT_TRUE(writer.add_tensor("lm_head.weight", DType::F32, {4}).has_value());
  EXPECT_TRUE(writer.begin(dir, 16).has_value());
  EXPECT_TRUE(writer.append(std::vector<std::byte>(16)).has_value());
  EXPECT_TRUE(writer.append(std::vector<std::byte>(16)).has_value());
  EXPECT_TRUE(writer.commit().has_value());
  return dir;
}

void set_index(const std::string& dir, const std::string& text) {
  test::write_text(dir + "/model.safetensors.index.json", text);
}

uint64_t n_parameters(const Checkpoint& checkpoint) {
  uint64_t n = 0;
  for (const auto& tensor : checkpoint.tensors()) n += tensor.n_elements();
  return n;
}

TEST(Checkpoint, ReadsRealCheckpoints) {
  SHOEHORN_SHARED(models, "models");
  const std::tuple<const char*, size_t, uint64_t, DType> expected[] = {
      {"fable-10m", 75, 9'703'680, DType::BF16},
      {"stories260K", 47, 260'032, DType::F32},
      {"babyllama-tok105", 47, 936'448, DType::F32},
  };
  for (const auto& [name, n_tensors, parameters, dtype] : expected) {
    ASSERT_EXPECTED(const auto checkpoint, Checkpoint::open(models + "/" + name));
    EXPECT_EQ(checkpoint.tensors().size(), n_tensors) << name;
    EXPECT_EQ(n_parameters(checkpoint), parameters) << name;
    EXPECT_TRUE(checkpoint.dropped().empty());
    EXPECT_EQ(checkpoint.file_bytes(), std::filesystem::file_size(models + "/" + name + "/model.safetensors"));
    for (const auto& tensor : checkpoint.tensors()) {
      EXPECT_EQ(tensor.dtype, dtype);
      EXPECT_EQ(checkpoint.find(tensor.name), &tensor);
      std::vector<float> values(tensor.n_elements());
      read_floats(tensor, 0, values.size(), values.data());
      for (const float value : values) ASSERT_TRUE(std::isfinite(value)) << tensor.name;
    }
    EXPECT_EQ(checkpoint.find("absent"), nullptr);
  }
}

TEST(Checkpoint, OpensShardsDirectoriesAndSingleFiles) {
  const std::string dir = sharded_dir();
  for (const std::string& path : {dir, dir + "/model.safetensors.index.json"}) {
    ASSERT_EXPECTED(const auto checkpoint, Checkpoint::open(path));
    EXPECT_EQ(checkpoint.tensors().size(), 2u);
    EXPECT_EQ(checkpoint.path(), path);
  }
  ASSERT_EXPECTED(const auto shard, Checkpoint::open(dir + "/model-00002-of-00002.safetensors"));
  EXPECT_EQ(shard.tensors().size(), 1u);
}

TEST(Checkpoint, StaysValidWhenMoved) {
  ASSERT_EXPECTED(Checkpoint checkpoint, Checkpoint::open(sharded_dir()));
  const Checkpoint moved = std::move(checkpoint);
  ASSERT_NE(moved.find("lm_head.weight"), nullptr);
  float value = 1;
  read_floats(*moved.find("lm_head.weight"), 3, 1, &value);
  EXPECT_EQ(value, 0.0f);
}

TEST(Checkpoint, AMissingShardIsNamed) {
  const std::string dir = sharded_dir();
  std::filesystem::remove(dir + "/model-00002-of-00002.safetensors");
  EXPECT_FAILS(Checkpoint::open(dir), kNotFound, "shard model-00002-of-00002.safetensors is missing");
}

TEST(Checkpoint, TheIndexIsCheckedAgainstTheShards) {
  const std::string dir = sharded_dir();
  set_index(dir, R"({"weight_map": {"model.norm.weight": "model-00002-of-00002.safetensors"}})");
  EXPECT_FAILS(Checkpoint::open(dir), kInvalid, "tensor model.norm.weight is not in model-00002-of-00002.safetensors");
  set_index(dir, R"({"weight_map": {"a": "../../etc/passwd"}})");
  EXPECT_FAILS(Checkpoint::open(dir), kInvalid, "not a plain file name");
  set_index(dir, R"({"weight_map": {"a": ".."}})");
  EXPECT_FAILS(Checkpoint::open(dir), kInvalid, "not a plain file name");
  set_index(dir, R"({"weight_map": {"a": 7}})");
  EXPECT_FAILS(Checkpoint::open(dir), kInvalid, "no file for tensor a");
  for (const char* text : {"{}", "[]", "7", R"({"weight_map": []})", R"({"weight_map": {}})"}) {
    set_index(dir, text);
    EXPECT_FAILS(Checkpoint::open(dir), kInvalid, "no weight_map");
  }
  set_index(dir, R"({"weight_map": )");
  EXPECT_FAILS(Checkpoint::open(dir), kInvalid, "index.json");
  set_index(dir, std::string(10'000, '['));
  EXPECT_FAILS(Checkpoint::open(dir), kInvalid, "index.json");
}

TEST(Checkpoint, TorchShardsAreMerged) {
  const std::string dir = test::temp_dir();
  test::write_text(dir + "/pytorch_model-00001-of-00002.bin", test::small_torch_file("model.norm.weight"));
  test::write_text(dir + "/pytorch_model-00002-of-00002.bin", test::small_torch_file("lm_head.weight"));
  test::write_text(dir + "/pytorch_model.bin.index.json",
                   R"({"metadata": {"total_size": 48}, "weight_map": {
                       "model.norm.weight": "pytorch_model-00001-of-00002.bin",
                       "lm_head.weight": "pytorch_model-00002-of-00002.bin"}})");
  ASSERT_EXPECTED(const auto checkpoint, Checkpoint::open(dir));
  EXPECT_EQ(checkpoint.tensors().size(), 2u);
  // The same name in both shards.
  test::write_text(dir + "/pytorch_model-00002-of-00002.bin", test::small_torch_file("model.norm.weight"));
  test::write_text(dir + "/pytorch_model.bin.index.json",
                   R"({"weight_map": {"model.norm.weight": "pytorch_model-00001-of-00002.bin",
                       "x": "pytorch_model-00002-of-00002.bin"}})");
  EXPECT_FAILS(Checkpoint::open(dir), kInvalid, "tensor x is not in pytorch_model-00002-of-00002.bin");
}

TEST(Checkpoint, SafetensorsComeBeforeTorchFiles) {
  const std::string dir = test::temp_dir();
  test::write_text(dir + "/pytorch_model.bin", test::small_torch_file());
  test::write_text(dir + "/model.safetensors", test::raw(uint64_t{2}) + "{}");
  ASSERT_EXPECTED(const auto checkpoint, Checkpoint::open(dir));
  EXPECT_TRUE(checkpoint.tensors().empty());
}

TEST(Checkpoint, WhatIsNoCheckpointIsSaid) {
  const std::string dir = test::temp_dir();
  EXPECT_FAILS(Checkpoint::open(dir), kNotFound, "neither model.safetensors nor pytorch_model.bin");
  EXPECT_FAILS(Checkpoint::open(dir + "/absent"), kNotFound, "no such file");
  const std::string file = dir + "/model.safetensors";
  test::write_text(file, "");
  EXPECT_FAILS(Checkpoint::open(dir), kInvalid, "the file is empty");
  test::write_text(file, "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n");
  EXPECT_FAILS(Checkpoint::open(dir), kInvalid, "Git LFS pointer");
  test::write_text(file, std::string("GGUF\3\0\0\0", 8) + std::string(50, '\0'));
  EXPECT_FAILS(Checkpoint::open(dir), kUnsupported, "a GGUF file");
  test::write_text(file, "<!DOCTYPE html><html>");
  EXPECT_FAILS(Checkpoint::open(dir), kInvalid, "not safetensors");
  std::filesystem::remove(file);
  std::filesystem::create_directory(file);
  EXPECT_FALSE(Checkpoint::open(dir).has_value());
}

}  // namespace
}  // namespace shoehorn::io
