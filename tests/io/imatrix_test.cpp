#include "io/imatrix.h"

#include <cmath>
#include <filesystem>
#include <limits>

#include "base/output_file.h"
#include "io/gguf.h"
#include "io_support.h"

namespace shoehorn::io {
namespace {

using test::raw;
using test::raw_array;

Expected<Imatrix> read(const std::string& bytes) { return read_imatrix(test::MemoryFile(bytes).path()); }

/// Two tensors, one of them with two experts of which the second saw nothing; sums that floats hold exactly.
Imatrix sample() {
  Imatrix imatrix;
  imatrix.datasets = {"a.txt", "b.txt"};
  imatrix.chunk_count = 3;
  imatrix.chunk_size = 8;
  imatrix.entries["blk.0.attn_q.weight"] = {.in_sum2 = {24, 0, 6, 12}, .counts = {24}};
  imatrix.entries["blk.0.ffn_down_exps.weight"] = {.in_sum2 = {5, 10, 0, 0}, .counts = {20, 0}};
  return imatrix;
}

void expect_equal(const Imatrix& a, const Imatrix& b) {
  EXPECT_EQ(a.datasets, b.datasets);
  EXPECT_EQ(a.chunk_count, b.chunk_count);
  EXPECT_EQ(a.chunk_size, b.chunk_size);
  EXPECT_EQ(a.fingerprint, b.fingerprint);
  ASSERT_EQ(a.entries.size(), b.entries.size());
  for (const auto& [name, entry] : a.entries) {
    ASSERT_TRUE(b.entries.contains(name)) << name;
    EXPECT_EQ(entry.in_sum2, b.entries.at(name).in_sum2) << name;
    EXPECT_EQ(entry.counts, b.entries.at(name).counts) << name;
  }
}

std::string legacy_entry(std::string_view name, int32_t n_calls, std::initializer_list<float> values) {
  return raw(static_cast<int32_t>(name.size())) + std::string(name) + raw(n_calls) +
         raw(static_cast<int32_t>(values.size())) + raw_array(values);
}

std::string legacy() {
  return raw(int32_t{2}) + legacy_entry("blk.0.ffn_up.weight", 4, {8, 2}) +
         legacy_entry("blk.0.ffn_down.weight", 4, {1, 0, 3}) + raw(int32_t{5}) + raw(int32_t{4}) + "text";
}

TEST(Imatrix, ImportanceIsTheMeanSquare) {
  const Imatrix imatrix = sample();
  EXPECT_EQ(imatrix.importance("blk.0.attn_q.weight"), (std::vector<float>{1, 0, 0.25f, 0.5f}));
  EXPECT_EQ(imatrix.importance("blk.0.attn_k.weight"), std::nullopt);
  // An expert that no token reached says nothing about its channels.
  EXPECT_EQ(imatrix.importance("blk.0.ffn_down_exps.weight"), (std::vector<float>{0.25f, 0.5f, 1, 1}));
  EXPECT_EQ(imatrix.tokens(), 24u);
}

TEST(Imatrix, GgufComesBackAsItWas) {
  const std::string path = test::temp_dir() + "/imatrix.gguf";
  ASSERT_TRUE(write_imatrix(sample(), path));
  ASSERT_EXPECTED(const Imatrix back, read_imatrix(path));
  expect_equal(back, sample());
}

/// What llama.cpp's reader (common_imatrix_load, tools/imatrix) looks for.
TEST(Imatrix, GgufIsBuiltAsLlamaCppReadsIt) {
  const std::string path = test::temp_dir() + "/imatrix.gguf";
  ASSERT_TRUE(write_imatrix(sample(), path));
  ASSERT_EXPECTED(const auto file, GgufFile::open(path));
  const auto& metadata = file.metadata();
  EXPECT_EQ(*metadata.get_string("general.type"), "imatrix");
  EXPECT_EQ(*metadata.get_strings("imatrix.datasets"), (std::vector<std::string>{"a.txt", "b.txt"}));
  EXPECT_EQ(std::get<uint32_t>(*metadata.find("imatrix.chunk_count")), 3u);
  EXPECT_EQ(std::get<uint32_t>(*metadata.find("imatrix.chunk_size")), 8u);
  EXPECT_EQ(metadata.entries().size(), 4u);
  ASSERT_EQ(file.tensors().size(), 4u);
  const auto* sums = file.find("blk.0.ffn_down_exps.weight.in_sum2");
  const auto* counts = file.find("blk.0.ffn_down_exps.weight.counts");
  ASSERT_TRUE(sums != nullptr && counts != nullptr);
  EXPECT_EQ(sums->shape, (std::vector<uint64_t>{2, 2}));
  EXPECT_EQ(counts->shape, (std::vector<uint64_t>{1, 2}));
  EXPECT_EQ(sums->type, quant::Type::F32);
  EXPECT_EQ(counts->type, quant::Type::F32);
}

TEST(Imatrix, AnUnfinishedOneKeepsItsSumsExactly) {
  Imatrix imatrix = sample();
  imatrix.fingerprint = "model and text";
  imatrix.entries["blk.0.attn_q.weight"].in_sum2[1] = 1.0 / 3;
  const std::string path = test::temp_dir() + "/imatrix.state";
  ASSERT_TRUE(write_imatrix(imatrix, path));
  ASSERT_EXPECTED(const Imatrix back, read_imatrix(path));
  expect_equal(back, imatrix);
}

TEST(Imatrix, LegacyValuesAreMeansTimesCalls) {
  ASSERT_EXPECTED(const Imatrix imatrix, read(legacy()));
  EXPECT_EQ(imatrix.importance("blk.0.ffn_up.weight"), (std::vector<float>{2, 0.5f}));
  EXPECT_EQ(imatrix.importance("blk.0.ffn_down.weight"), (std::vector<float>{0.25f, 0, 0.75f}));
  EXPECT_EQ(imatrix.entries.at("blk.0.ffn_up.weight").counts, std::vector<uint64_t>{4 * 512});
  EXPECT_EQ(imatrix.chunk_count, 5u);
  EXPECT_EQ(imatrix.datasets, std::vector<std::string>{"text"});
}

TEST(Imatrix, LegacyKeepsImportanceChunksAndTheLastDataset) {
  const std::string path = test::temp_dir() + "/imatrix.dat";
  ASSERT_TRUE(write_imatrix(sample(), path));
  ASSERT_EXPECTED(const Imatrix back, read_imatrix(path, 8));
  EXPECT_EQ(back.datasets, std::vector<std::string>{"b.txt"});
  EXPECT_EQ(back.chunk_count, 3u);
  for (const auto& [name, entry] : sample().entries) {
    const auto before = entry.importance(), after = *back.importance(name);
    ASSERT_EQ(before.size(), after.size());
    for (size_t i = 0; i < before.size(); ++i) EXPECT_FLOAT_EQ(after[i], before[i]) << name << " " << i;
  }
}

TEST(Imatrix, LlamaCppsOwnFileSurvivesBothFormats) {
  SHOEHORN_SHARED(path, "reference/fable-10m.imatrix.dat");
  ASSERT_EXPECTED(const Imatrix imatrix, read_imatrix(path));
  EXPECT_EQ(imatrix.entries.size(), 56u);
  EXPECT_EQ(imatrix.chunk_count, 250u);
  EXPECT_EQ(imatrix.tokens(), 250u * 512);
  EXPECT_TRUE(imatrix.datasets.at(0).ends_with("books.train.txt"));
  EXPECT_EQ(imatrix.entries.at("blk.7.ffn_down.weight").n_cols(), 1024u);
  EXPECT_EQ(imatrix.importance("blk.3.attn_q.weight"), imatrix.importance("blk.3.attn_v.weight"));
  for (const char* name : {"/imatrix.dat", "/imatrix.gguf"}) {
    const std::string copy = test::temp_dir() + name;
    ASSERT_TRUE(write_imatrix(imatrix, copy));
    ASSERT_EXPECTED(const Imatrix back, read_imatrix(copy));
    EXPECT_EQ(back.chunk_count, 250u);
    EXPECT_EQ(back.datasets, imatrix.datasets);
    ASSERT_EQ(back.entries.size(), 56u);
    for (const auto& [tensor, entry] : imatrix.entries)
      EXPECT_EQ(back.importance(tensor), entry.importance()) << name << tensor;
  }
}

TEST(Imatrix, MergingAddsTokenByToken) {
  Imatrix a = sample(), b = sample();
  b.datasets = {"c.txt"};
  b.entries["blk.1.attn_q.weight"] = {.in_sum2 = {7}, .counts = {24}};
  ASSERT_EXPECTED(const Imatrix sum, merge(a, b));
  EXPECT_EQ(sum.entries.at("blk.0.attn_q.weight").in_sum2, (std::vector<double>{48, 0, 12, 24}));
  EXPECT_EQ(sum.entries.at("blk.0.attn_q.weight").counts, std::vector<uint64_t>{48});
  EXPECT_EQ(sum.entries.at("blk.0.ffn_down_exps.weight").counts, (std::vector<uint64_t>{40, 0}));
  EXPECT_EQ(sum.entries.at("blk.1.attn_q.weight").in_sum2, std::vector<double>{7});
  EXPECT_EQ(sum.chunk_count, 6u);
  EXPECT_EQ(sum.datasets, (std::vector<std::string>{"a.txt", "b.txt", "c.txt"}));

  b.chunk_size = 16;
  ASSERT_EXPECTED(const Imatrix other_length, merge(a, b));
  EXPECT_EQ(other_length.chunk_count, 3u + 6u) << "3 chunks of 16 tokens are 6 of 8";
}

TEST(Imatrix, MergingRefusesOtherShapes) {
  Imatrix other = sample();
  other.entries["blk.0.attn_q.weight"].in_sum2.pop_back();
  EXPECT_FAILS(merge(sample(), other), kInvalid, "blk.0.attn_q.weight has 1 x 4");
  other = sample();
  other.entries["blk.0.ffn_down_exps.weight"].counts = {20};
  EXPECT_FAILS(merge(sample(), other), kInvalid, "blk.0.ffn_down_exps.weight has 2 x 2");
}

TEST(Imatrix, EveryTruncationIsAnError) {
  const std::string whole = legacy();
  const size_t before_the_dataset = whole.size() - 12;
  for (size_t n = 0; n < whole.size(); ++n) {
    // Old files have no dataset: all that is asked of them is there.
    if (n == before_the_dataset) continue;
    EXPECT_FALSE(read(whole.substr(0, n)).has_value()) << n;
  }
  ASSERT_EXPECTED(const Imatrix old, read(whole.substr(0, before_the_dataset)));
  EXPECT_EQ(old.chunk_count, 4u);
  EXPECT_FAILS(read(whole + "x"), kInvalid, "1 bytes follow");

  const std::string path = test::temp_dir() + "/imatrix.gguf";
  ASSERT_TRUE(write_imatrix(sample(), path));
  const std::string gguf = test::read_text(path);
  const size_t padding = 32 - 2 * sizeof(float);  // behind the last counts
  for (size_t n = 0; n < gguf.size() - padding; ++n) EXPECT_FALSE(read(gguf.substr(0, n)).has_value()) << n;
}

TEST(Imatrix, HostileLegacyFilesAreErrors) {
  const std::string one = raw(int32_t{1});
  const std::string name = raw(int32_t{1}) + "t";
  const std::string calls = raw(int32_t{4});
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInfinity = std::numeric_limits<float>::infinity();
  const std::pair<std::string, const char*> cases[] = {
      {raw(int32_t{0}), "number of entries is 0"},
      {raw(int32_t{-1}), "number of entries is -1"},
      {raw(int32_t{1 << 21}), "number of entries is 2097152"},
      {one + raw(int32_t{-5}), "length of a name is -5"},
      {one + raw(INT32_MAX) + "x", "over the limit of 65535"},
      {one + raw(int32_t{60000}) + "x", "truncated"},
      {one + name + raw(int32_t{0}) + one + raw(1.0f), "number of calls is 0"},
      {one + name + calls + raw(int32_t{0}), "number of values is 0"},
      {one + name + calls + raw(int32_t{-1}), "number of values is -1"},
      {one + name + calls + raw(INT32_MAX) + raw(1.0f), "truncated"},
      {one + legacy_entry("t", 4, {1, kNan}), "channel 1 has the sum nan"},
      {one + legacy_entry("t", 4, {kInfinity}), "channel 0 has the sum inf"},
      {one + legacy_entry("t", 4, {1, 2, -1}), "channel 2 has the sum -1"},
      {raw(int32_t{2}) + legacy_entry("t", 4, {1}) + legacy_entry("t", 4, {1}), "appears twice"},
      {one + legacy_entry("t", 4, {1}) + calls + raw(UINT32_MAX) + "x", "over the limit"},
      {"just some text, which is no matrix at all", "number of entries"},
  };
  for (const auto& [bytes, message] : cases) EXPECT_FAILS(read(bytes), kInvalid, message);
}

/// Writes a GGUF of these tensors and keys and reads it as an importance matrix.
struct Gguf {
  GgufWriter writer;
  std::vector<std::vector<float>> data;
  Gguf() {
    writer.set("general.type", "imatrix");
    writer.set("imatrix.chunk_count", uint32_t{1});
    writer.set("imatrix.chunk_size", uint32_t{8});
  }
  void add(const char* name, std::vector<uint64_t> shape, std::vector<float> values) {
    ASSERT_TRUE(writer.add_tensor(name, quant::Type::F32, std::move(shape)));
    data.push_back(std::move(values));
  }
  Expected<Imatrix> read() {
    const std::string path = test::temp_dir() + "/imatrix.gguf";
    EXPECT_TRUE(writer.begin(path));
    for (const auto& values : data) EXPECT_TRUE(writer.append(std::as_bytes(std::span(values))));
    EXPECT_TRUE(writer.commit());
    return read_imatrix(path);
  }
};

TEST(Imatrix, MalformedGgufsAreErrors) {
  {
    Gguf file;
    file.add("t.in_sum2", {2}, {1, 2});
    EXPECT_FAILS(file.read(), kInvalid, "entry t has sums, but no .counts");
  }
  {
    Gguf file;
    file.add("t.counts", {1}, {8});
    EXPECT_FAILS(file.read(), kInvalid, "entry t has counts, but no .in_sum2");
  }
  for (const float count : {-1.0f, std::numeric_limits<float>::quiet_NaN(), 1e30f}) {
    Gguf file;
    file.add("t.in_sum2", {2}, {1, 2});
    file.add("t.counts", {1}, {count});
    EXPECT_FAILS(file.read(), kInvalid, "entry t has a count of");
  }
  for (const float sum : {-1.0f, std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    Gguf file;
    file.add("t.in_sum2", {2}, {1, sum});
    file.add("t.counts", {1}, {8});
    EXPECT_FAILS(file.read(), kInvalid, "entry t: channel 1 has the sum");
  }
  {
    Gguf file;
    file.add("t.in_sum2", {3}, {1, 2, 3});
    file.add("t.counts", {1, 2}, {8, 8});
    EXPECT_FAILS(file.read(), kInvalid, "3 sums for 2 counts");
  }
  {
    Gguf file;
    file.add("t.in_sum2", {2}, {1, 2});
    file.add("t.counts", {1}, {8});
    file.writer.set("shoehorn.imatrix.in_sum2.t", GgufArray(std::vector<double>{1}));
    EXPECT_FAILS(file.read(), kInvalid, "not 2 numbers");
  }
  {
    Gguf file;
    EXPECT_FAILS(file.read(), kInvalid, "has no entries");
  }
  for (const uint64_t size : {uint64_t{0}, uint64_t{1} << 40}) {
    Gguf file;
    file.writer.set("imatrix.chunk_size", size);
    EXPECT_FAILS(file.read(), kInvalid, "imatrix.chunk_size");
  }
  {
    Gguf file;
    file.writer.set("imatrix.chunk_count", uint64_t{1} << 60);
    EXPECT_FAILS(file.read(), kInvalid, "imatrix.chunk_count");
  }
  {
    Gguf file;
    file.writer.set("general.type", "model");
    EXPECT_FAILS(file.read(), kInvalid, "general.type is model");
  }
}

TEST(Imatrix, RandomDamageNeverCrashes) {
  const std::string path = test::temp_dir() + "/imatrix.gguf";
  ASSERT_TRUE(write_imatrix(sample(), path));
  std::mt19937 rng(1);
  for (const std::string& whole : {legacy(), test::read_text(path)}) {
    for (int i = 0; i < 2000; ++i) {
      const auto imatrix = read(test::flip_bits(whole, rng));
      if (!imatrix) continue;
      for (const auto& [name, entry] : imatrix->entries) {
        ASSERT_EQ(entry.in_sum2.size(), entry.n_mat() * entry.n_cols());
        for (const float value : entry.importance()) ASSERT_TRUE(value >= 0 && std::isfinite(value)) << name;
      }
    }
  }
}

TEST(Imatrix, WhatDoesNotFitIsNotWritten) {
  const std::string path = test::temp_dir() + "/imatrix.gguf";
  test::write_text(path, "there before");
  Imatrix imatrix = sample();
  imatrix.entries["blk.0.attn_q.weight"].in_sum2[0] = 1e300;
  EXPECT_FAILS(write_imatrix(imatrix, path), kTooLarge, "blk.0.attn_q.weight");
  EXPECT_FAILS(write_imatrix(Imatrix{}, path), kInvalid, "without entries");
  EXPECT_EQ(test::read_text(path), "there before");
}

}  // namespace
}  // namespace shoehorn::io
