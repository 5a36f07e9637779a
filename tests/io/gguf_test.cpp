#include "io/gguf.h"

#include <filesystem>

#include "io/gguf_bytes.h"
#include "io_support.h"

namespace shoehorn::io {
namespace {

using namespace test::gguf;
using test::raw;

Expected<GgufFile> open(const std::string& bytes) {
  const test::MemoryFile memory(bytes);
  auto file = GgufFile::open(memory.path());
  if (file) {
    for (const GgufTensor& tensor : file->tensors()) {
      volatile int sum = 0;
      for (const std::byte b : tensor.data) sum = sum + std::to_integer<int>(b);
    }
  }
  return file;
}

std::string good() {
  return with_data(header(2, 2) + key_u32("a.b", 7) + text("name") + raw(uint32_t{8}) + text("value") +
                       info("t", {4, 2}, kF32, 0) + info("q", {32}, kQ8_0, 32),
                   32 + 34);
}

TEST(Gguf, ReadsTensorsAndMetadata) {
  ASSERT_EXPECTED(const auto file, open(good()));
  EXPECT_EQ(file.version(), 3u);
  EXPECT_EQ(file.metadata().get_uint("a.b"), 7u);
  EXPECT_EQ(*file.metadata().get_string("name"), "value");
  EXPECT_EQ(file.metadata().get_uint("name"), std::nullopt);
  ASSERT_EQ(file.tensors().size(), 2u);
  EXPECT_EQ(file.find("t")->n_cols(), 4u);
  EXPECT_EQ(file.find("t")->n_rows(), 2u);
  EXPECT_EQ(file.find("q")->data.size(), 34u);
  EXPECT_EQ(file.find("x"), nullptr);
}

TEST(Gguf, HostileHeadersAreErrors) {
  EXPECT_FAILS(open(""), kInvalid, "truncated");
  EXPECT_FAILS(open("GGML1234"), kInvalid, "not a GGUF file");
  EXPECT_FAILS(open(header(0, 0, 1)), kUnsupported, "version 1");
  EXPECT_FAILS(open(header(0, 0, 0x03000000)), kUnsupported, "big-endian");
  for (const uint64_t n : {uint64_t{1} << 63, UINT64_MAX, uint64_t{1} << 40, uint64_t{1000}}) {
    EXPECT_FAILS(open(header(n, 0)), kInvalid, fmt::format("announces {} tensors", n));
    EXPECT_FAILS(open(header(0, n)), kInvalid, fmt::format("announces {} keys", n));
  }
}

TEST(Gguf, HostileMetadataIsAnError) {
  const std::string pad(100, '\0');
  const std::pair<std::string, const char*> cases[] = {
      {raw(UINT64_MAX), "length 18446744073709551615"},
      {raw(uint64_t{65535}) + "x", "truncated"},
      {text("k") + raw(uint32_t{13}), "key k: unknown value type 13"},
      {text("k") + raw(uint32_t{8}) + raw(UINT64_MAX - 7), "key k"},
      {text("k") + raw(uint32_t{7}) + "\2", "a boolean holds 2"},
      {text("k") + raw(uint32_t{9}) + raw(uint32_t{4}) + raw(uint64_t{1} << 62), "over the limit"},
      {text("k") + raw(uint32_t{9}) + raw(uint32_t{8}) + raw(uint64_t{1} << 62), "strings does not fit"},
      {text("k") + raw(uint32_t{9}) + raw(uint32_t{9}) + raw(uint64_t{1}), "arrays of arrays"},
      {text("k") + raw(uint32_t{9}) + raw(uint32_t{77}) + raw(uint64_t{1}), "unknown array type 77"},
      {key_u32("general.alignment", 0), "power of two"},
      {key_u32("general.alignment", 48), "power of two"},
      {key_u32("general.alignment", uint32_t{1} << 31), "power of two"},
      {text("general.alignment") + raw(uint32_t{8}) + text("32"), "power of two"},
  };
  for (const auto& [bytes, reason] : cases) {
    const auto result = open(header(0, 1) + bytes + pad);
    ASSERT_FALSE(result.has_value()) << reason;
    EXPECT_NE(result.error().message.find(reason), std::string::npos) << result.error().message;
  }
  EXPECT_FAILS(open(header(0, 2) + key_u32("k", 1) + key_u32("k", 2)), kInvalid, "k appears twice");
}

TEST(Gguf, HostileTensorInfosAreErrors) {
  struct Case {
    std::string infos;
    uint64_t n;
    const char* reason;
  };
  const uint64_t big = uint64_t{1} << 32;
  const Case cases[] = {
      {info("t", {1, 1, 1, 1, 1}, kF32, 0), 1, "n_dims is 5"},
      {text("t") + raw(UINT32_MAX) + std::string(50, '\0'), 1, "n_dims is 4294967295"},
      {info("t", {big, big, big}, kF32, 0), 1, "overflows"},
      {info("t", {uint64_t{1} << 62, 4}, kF32, 0), 1, "overflows"},
      {info("t", {(uint64_t{1} << 62) + 8}, kF32, 0), 1, "overflows"},
      {info("t", {0, 4}, kF32, 0), 1, "a dimension is 0"},
      {info("t", {4}, 4, 0), 1, "type"},
      {info("t", {4}, 1'000'000, 0), 1, "type id 1000000 does not exist"},
      {info("t", {33}, kQ8_0, 0), 1, "row length 33"},
      {info("t", {4}, kF32, 7), 1, "not aligned"},
      {info("t", {4}, kF32, 128), 1, "past the end"},
      {info("t", {4}, kF32, UINT64_MAX - 31), 1, "past the end"},
      {info("t", {1024}, kF32, 0), 1, "past the end"},
      {info("t", {16}, kF32, 0) + info("u", {8}, kF32, 32), 2, "overlaps"},
      {info("t", {8}, kF32, 32) + info("u", {16}, kF32, 0), 2, "overlaps"},
      {info("t", {8}, kF32, 0) + info("u", {8}, kF32, 0), 2, "overlaps"},
      {info("t", {8}, kF32, 0) + info("t", {8}, kF32, 32), 2, "t appears twice"},
  };
  for (const Case& c : cases) {
    const auto result = open(with_data(header(c.n, 0) + c.infos, 128));
    ASSERT_FALSE(result.has_value()) << c.reason;
    EXPECT_NE(result.error().message.find(c.reason), std::string::npos) << result.error().message;
  }
}

TEST(Gguf, EveryTruncationIsAnError) {
  const std::string bytes = good();
  for (size_t n = 0; n < bytes.size(); ++n) EXPECT_FALSE(open(bytes.substr(0, n)).has_value()) << n;
}

TEST(Gguf, FlippedBitsNeverCrash) {
  std::mt19937 rng(5);
  const std::string bytes = good();
  int readable = 0;
  for (int i = 0; i < 5'000; ++i) readable += open(test::flip_bits(bytes, rng)).has_value() ? 1 : 0;
  EXPECT_GT(readable, 0);
  EXPECT_LT(readable, 5'000);
}

TEST(Gguf, EveryValueTypeRoundTrips) {
  const std::string path = test::temp_dir() + "/values.gguf";
  const std::pair<const char*, GgufValue> values[] = {{"u8", uint8_t{255}},
                                                      {"i8", int8_t{-128}},
                                                      {"u16", uint16_t{65535}},
                                                      {"i16", int16_t{-32768}},
                                                      {"u32", UINT32_MAX},
                                                      {"i32", INT32_MIN},
                                                      {"u64", UINT64_MAX},
                                                      {"i64", INT64_MIN},
                                                      {"f32", 1.5f},
                                                      {"f64", 0.1},
                                                      {"yes", true},
                                                      {"no", false},
                                                      {"text", std::string("a\0b", 3)},
                                                      {"empty", std::string()},
                                                      {"a.u8", GgufArray(std::vector<uint8_t>{1, 2})},
                                                      {"a.i8", GgufArray(std::vector<int8_t>{-1})},
                                                      {"a.u16", GgufArray(std::vector<uint16_t>{9})},
                                                      {"a.i16", GgufArray(std::vector<int16_t>{-9})},
                                                      {"a.u32", GgufArray(std::vector<uint32_t>{7})},
                                                      {"a.i32", GgufArray(std::vector<int32_t>{-7, 8})},
                                                      {"a.u64", GgufArray(std::vector<uint64_t>{UINT64_MAX})},
                                                      {"a.i64", GgufArray(std::vector<int64_t>{INT64_MIN})},
                                                      {"a.f32", GgufArray(std::vector<float>{0.25f})},
                                                      {"a.f64", GgufArray(std::vector<double>{0.1})},
                                                      {"a.bool", GgufArray(std::vector<bool>{true, false, true})},
                                                      {"a.text", GgufArray(std::vector<std::string>{"x", "", "yz"})},
                                                      {"a.none", GgufArray(std::vector<std::string>{})}};
  GgufWriter writer;
  for (const auto& [key, value] : values) writer.set(key, value);
  ASSERT_TRUE(writer.begin(path).has_value());
  ASSERT_TRUE(writer.commit().has_value());
  ASSERT_EXPECTED(const auto file, GgufFile::open(path));
  ASSERT_EQ(file.metadata().entries().size(), std::size(values));
  for (size_t i = 0; i < std::size(values); ++i) {
    EXPECT_EQ(file.metadata().entries()[i].first, values[i].first);
    EXPECT_TRUE(file.metadata().entries()[i].second == values[i].second) << values[i].first;
  }
}

TEST(Gguf, TensorsRoundTripAndNothingAppearsBeforeCommit) {
  const std::string path = test::temp_dir() + "/t.gguf";
  GgufWriter writer;
  ASSERT_TRUE(writer.add_tensor("a", quant::Type::F32, {3, 1}).has_value());
  ASSERT_TRUE(writer.add_tensor("b", quant::Type::Q8_0, {64, 2}).has_value());
  EXPECT_FALSE(writer.add_tensor("c", quant::Type::Q8_0, {33}).has_value());
  EXPECT_FALSE(writer.add_tensor("c", quant::Type::F32, {uint64_t{1} << 40, uint64_t{1} << 40}).has_value());
  ASSERT_TRUE(writer.begin(path).has_value());
  const std::vector<std::byte> a(12, std::byte{1}), b(4 * 34, std::byte{2});
  EXPECT_FALSE(writer.append(std::vector<std::byte>(13)).has_value()) << "more than the tensor takes";
  ASSERT_TRUE(writer.append(a).has_value());
  ASSERT_TRUE(writer.append(std::span(b).first(50)).has_value());
  EXPECT_FAILS(writer.commit(), kInvalid, "b is incomplete: 50 of 136 bytes");
  EXPECT_FALSE(std::filesystem::exists(path));
  ASSERT_TRUE(writer.append(std::span(b).subspan(50)).has_value());
  ASSERT_TRUE(writer.commit().has_value());
  EXPECT_EQ(std::filesystem::file_size(path), writer.file_bytes());
  ASSERT_EXPECTED(const auto file, GgufFile::open(path));
  EXPECT_TRUE(std::equal(a.begin(), a.end(), file.find("a")->data.begin(), file.find("a")->data.end()));
  EXPECT_TRUE(std::equal(b.begin(), b.end(), file.find("b")->data.begin(), file.find("b")->data.end()));
  EXPECT_EQ(file.find("b")->shape, (std::vector<uint64_t>{64, 2}));
}

TEST(Gguf, MetadataLooksUpByKindAndWidth) {
  GgufMetadata metadata;
  metadata.set("a", int32_t{-1});
  metadata.set("b", uint8_t{4});
  metadata.set("c", GgufArray(std::vector<int32_t>{3, -4}));
  metadata.set("a", uint64_t{UINT64_MAX});
  EXPECT_EQ(metadata.entries().size(), 3u);
  EXPECT_EQ(metadata.get_uint("a"), UINT64_MAX);
  EXPECT_EQ(metadata.get_int("a"), std::nullopt);
  EXPECT_EQ(metadata.get_int("b"), 4);
  EXPECT_EQ(metadata.get_ints("c"), (std::vector<int64_t>{3, -4}));
  EXPECT_EQ(metadata.get_ints("a"), std::nullopt);
  metadata.erase("a");
  metadata.erase("absent");
  EXPECT_FALSE(metadata.contains("a"));
  EXPECT_EQ(metadata.get_int("b"), 4);
  EXPECT_EQ(metadata.get_ints("c")->size(), 2u);
}

std::string part(uint16_t number, uint16_t count, const std::string& tensor) {
  const auto key_u16 = [](std::string_view key, uint16_t value) { return text(key) + raw(uint32_t{2}) + raw(value); };
  return with_data(header(1, 3) + key_u16("split.no", number) + key_u16("split.count", count) +
                       text("split.tensors.count") + raw(uint32_t{5}) + raw(int32_t{2}) + info(tensor, {8}, kF32, 0),
                   32);
}

TEST(Gguf, SplitFilesAreOpenedTogether) {
  const std::string dir = test::temp_dir();
  const std::string first = dir + "/m-00001-of-00002.gguf", second = dir + "/m-00002-of-00002.gguf";
  test::write_text(first, part(0, 2, "a"));
  EXPECT_FAILS(GgufFile::open(first), kNotFound, "m-00002-of-00002.gguf");
  test::write_text(second, part(1, 2, "b"));
  ASSERT_EXPECTED(const auto file, GgufFile::open(first));
  EXPECT_EQ(file.tensors().size(), 2u);
  EXPECT_EQ(file.file_bytes(), std::filesystem::file_size(first) + std::filesystem::file_size(second));
  EXPECT_FAILS(GgufFile::open(second), kInvalid, "open " + first);
  test::write_text(second, part(1, 2, "a"));
  EXPECT_FAILS(GgufFile::open(first), kInvalid, "a appears twice");
  test::write_text(dir + "/x.gguf", part(0, 2, "a"));
  EXPECT_FAILS(GgufFile::open(dir + "/x.gguf"), kInvalid, "-00001-of-00002.gguf");
}

TEST(Gguf, ReadsRealFiles) {
  SHOEHORN_SHARED(reference, "reference");
  for (const char* name : {"fable-10m-F16.gguf", "fable-10m-Q4_K_M.gguf", "fable-10m-Q8_0.gguf"}) {
    ASSERT_EXPECTED(const auto file, GgufFile::open(reference + "/" + name));
    uint64_t n = 0;
    for (const GgufTensor& tensor : file.tensors()) n += tensor.n_elements();
    EXPECT_EQ(n, 9'703'680u) << name;
    EXPECT_EQ(*file.metadata().get_string("general.architecture"), "llama");
    EXPECT_EQ(file.metadata().get_uint("llama.block_count"), 8u);
    EXPECT_EQ(file.metadata().get_strings("tokenizer.ggml.tokens")->size(), 4096u);
  }
}

}  // namespace
}  // namespace shoehorn::io
