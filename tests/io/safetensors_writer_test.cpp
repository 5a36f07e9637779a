#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <filesystem>

#include "base/json.h"
#include "io/checkpoint.h"
#include "io/safetensors.h"
#include "io_support.h"

namespace shoehorn::io {
namespace {
namespace fs = std::filesystem;

std::vector<std::string> listing(const std::string& directory) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(directory)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<std::byte> ramp(size_t n, int start) {
  std::vector<std::byte> out(n);
  for (size_t i = 0; i < n; ++i) out[i] = static_cast<std::byte>(start + static_cast<int>(i));
  return out;
}

bool same(std::span<const std::byte> a, std::span<const std::byte> b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

TEST(SafetensorsWriter, RoundTripsASingleFile) {
  const std::string dir = test::temp_dir();
  SafetensorsWriter writer;
  ASSERT_TRUE(writer.add_tensor("model.norm.weight", DType::F32, {5}).has_value());
  ASSERT_TRUE(writer.add_tensor("nothing", DType::BF16, {0, 7}).has_value());
  ASSERT_TRUE(writer.add_tensor("lm_head.weight", DType::BF16, {3, 2}).has_value());
  EXPECT_EQ(writer.total_bytes(), 32u);
  ASSERT_TRUE(writer.begin(dir).has_value());
  const auto norm = ramp(20, 1), head = ramp(12, 100);
  ASSERT_TRUE(writer.append(std::span(norm).first(7)).has_value());
  ASSERT_TRUE(writer.append(std::span(norm).subspan(7)).has_value());
  ASSERT_TRUE(writer.append(head).has_value());
  EXPECT_FALSE(fs::exists(dir + "/model.safetensors"));
  ASSERT_TRUE(writer.commit().has_value());

  EXPECT_EQ(listing(dir), std::vector<std::string>{"model.safetensors"});
  const std::string text = test::read_text(dir + "/model.safetensors");
  uint64_t header_bytes;
  std::memcpy(&header_bytes, text.data(), 8);
  EXPECT_EQ((8 + header_bytes) % 64, 0u);
  ASSERT_EXPECTED(const Json header, parse_json(text.substr(8, header_bytes)));
  EXPECT_EQ(header["__metadata__"]["format"], "pt");

  ASSERT_EXPECTED(const auto checkpoint, Checkpoint::open(dir));
  ASSERT_EQ(checkpoint.tensors().size(), 3u);
  const auto* tensor = checkpoint.find("lm_head.weight");
  ASSERT_NE(tensor, nullptr);
  EXPECT_EQ(tensor->shape, (std::vector<uint64_t>{3, 2}));
  EXPECT_EQ(tensor->dtype, DType::BF16);
  EXPECT_TRUE(same(tensor->data, head));
  EXPECT_TRUE(same(checkpoint.find("model.norm.weight")->data, norm));
}

TEST(SafetensorsWriter, ShardsAreNamedAndIndexedAsHuggingFaceDoes) {
  const std::string dir = test::temp_dir();
  SafetensorsWriter writer;
  const std::vector<uint64_t> sizes = {40, 50, 30, 200, 10};  // shards: 40+50 | 30 | 200 | 10
  for (size_t i = 0; i < sizes.size(); ++i) {
    ASSERT_TRUE(writer.add_tensor("t" + std::to_string(i), DType::U8, {sizes[i]}).has_value());
  }
  ASSERT_TRUE(writer.begin(dir, 100).has_value());
  for (size_t i = 0; i < sizes.size(); ++i) {
    ASSERT_TRUE(writer.append(ramp(sizes[i], static_cast<int>(i))).has_value());
  }
  ASSERT_TRUE(writer.commit().has_value());
  EXPECT_EQ(listing(dir),
            (std::vector<std::string>{"model-00001-of-00004.safetensors", "model-00002-of-00004.safetensors",
                                      "model-00003-of-00004.safetensors", "model-00004-of-00004.safetensors",
                                      "model.safetensors.index.json"}));
  ASSERT_EXPECTED(const Json index, read_json(dir + "/model.safetensors.index.json"));
  EXPECT_EQ(index["metadata"]["total_size"], 330);
  EXPECT_EQ(index["weight_map"]["t1"], "model-00001-of-00004.safetensors");
  EXPECT_EQ(index["weight_map"]["t4"], "model-00004-of-00004.safetensors");
  for (size_t shard = 1; shard <= 4; ++shard) {
    const auto bytes = test::read_bytes(dir + fmt::format("/model-{:05}-of-00004.safetensors", shard));
    ASSERT_EXPECTED(const auto tensors, read_safetensors(bytes, "shard"));
    EXPECT_EQ(tensors.size(), shard == 1 ? 2u : 1u);
  }
}

TEST(SafetensorsWriter, LeavesNothingWhenNotCommitted) {
  const std::string dir = test::temp_dir();
  test::write_text(dir + "/model.safetensors", "as before");
  {
    SafetensorsWriter writer;
    ASSERT_TRUE(writer.add_tensor("a", DType::U8, {4}).has_value());
    ASSERT_TRUE(writer.begin(dir).has_value());
    ASSERT_TRUE(writer.append(ramp(4, 0)).has_value());
  }
  EXPECT_EQ(listing(dir), std::vector<std::string>{"model.safetensors"});
  EXPECT_EQ(test::read_text(dir + "/model.safetensors"), "as before");
}

TEST(SafetensorsWriter, AKilledWriterLeavesNothingThatReadsAsWeights) {
  const std::string dir = test::temp_dir();
  const pid_t pid = fork();
  if (pid == 0) {
    SafetensorsWriter writer;
    const bool ready = writer.add_tensor("a", DType::U8, {4}) && writer.add_tensor("b", DType::U8, {4}) &&
                       writer.begin(dir, 4) && writer.append(ramp(4, 0)) && writer.append(ramp(4, 0));
    if (ready) raise(SIGKILL);
    _exit(1);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  ASSERT_TRUE(WIFSIGNALED(status));
  for (const std::string& name : listing(dir)) EXPECT_TRUE(name.ends_with(".partial")) << name;
  EXPECT_FAILS(Checkpoint::open(dir), kNotFound, "neither");
}

TEST(SafetensorsWriter, MisuseIsAnError) {
  const std::string dir = test::temp_dir();
  SafetensorsWriter writer;
  EXPECT_FAILS(writer.append(ramp(1, 0)), kInvalid, "before begin");
  EXPECT_FAILS(writer.commit(), kInvalid, "before begin");
  EXPECT_FAILS(writer.add_tensor("w", DType::F64, {uint64_t{1} << 62}), kInvalid, "wraps");
  ASSERT_TRUE(writer.add_tensor("a", DType::U8, {4}).has_value());
  ASSERT_TRUE(writer.begin(dir).has_value());
  EXPECT_FAILS(writer.append(ramp(5, 0)), kInvalid, "tensor a takes 4 bytes, 5 were given");
  ASSERT_TRUE(writer.append(ramp(3, 0)).has_value());
  EXPECT_FAILS(writer.commit(), kInvalid, "tensor a has 3 of its 4 bytes");
  ASSERT_TRUE(writer.append(ramp(1, 0)).has_value());
  EXPECT_FAILS(writer.append(ramp(1, 0)), kInvalid, "more than declared");
  ASSERT_TRUE(writer.add_tensor("a", DType::U8, {4}).has_value());
  EXPECT_FAILS(writer.begin(dir), kInvalid, "a is declared twice");
}

TEST(SafetensorsWriter, RefusesADirectoryWithOtherWeights) {
  for (const char* other : {"model-00001-of-00009.safetensors", "pytorch_model.bin", "model.safetensors.index.json"}) {
    const std::string dir = test::temp_dir();
    test::write_text(dir + "/" + other, "x");
    SafetensorsWriter writer;
    ASSERT_TRUE(writer.add_tensor("a", DType::U8, {4}).has_value());
    EXPECT_FAILS(writer.begin(dir), kInvalid, other);
  }
}

TEST(SafetensorsWriter, RefusesWhatTheDiskCannotHold) {
  const std::string dir = test::temp_dir();
  SafetensorsWriter writer;
  ASSERT_TRUE(writer.add_tensor("a", DType::U8, {uint64_t{1} << 60}).has_value());
  EXPECT_FAILS(writer.begin(dir), kTooLarge, "1152921504606846976 bytes, the disk has");
  EXPECT_TRUE(listing(dir).empty());
  EXPECT_FAILS(writer.begin(dir + "/absent"), kIo, "absent");
}

}  // namespace
}  // namespace shoehorn::io
