#include "io/zip_archive.h"

#include "torch_fixture.h"

namespace shoehorn::io {
namespace {

using test::ExactBytes;
using test::ZipWriter;

Status open(const std::string& bytes) {
  const ExactBytes exact(bytes);
  return ZipArchive::open(exact.span(), "f").map([](const ZipArchive& archive) {
    for (const auto& [name, data] : archive.entries()) {
      volatile int sum = 0;
      for (const char c : name) sum = sum + c;
      for (const std::byte b : data) sum = sum + std::to_integer<int>(b);
    }
  });
}

ZipWriter two_entries() {
  ZipWriter zip;
  zip.add("d/a", "hello").add("d/../../b", std::string(100, 'b'));
  return zip;
}

TEST(ZipArchive, ReadsStoredEntries) {
  for (const bool zip64 : {false, true}) {
    ZipWriter zip;
    zip.add("d/a", "hello", {.zip64 = zip64}).add("empty", "", {.zip64 = zip64});
    const ExactBytes exact(zip.done(zip64, 0, zip64 ? "" : "a comment"));
    EXPECT_TRUE(ZipArchive::is_zip(exact.span()));
    ASSERT_EXPECTED(const auto archive, ZipArchive::open(exact.span(), "f"));
    ASSERT_EQ(archive.entries().size(), 2u);
    const auto data = archive.entries().at("d/a");
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(data.data()), data.size()), "hello");
    EXPECT_TRUE(archive.entries().at("empty").empty());
  }
}

TEST(ZipArchive, CompressionIsRefusedByName) {
  EXPECT_FAILS(open(ZipWriter().add("x", "y", {.method = 8}).done()), kUnsupported,
               "x is compressed (method 8, deflate)");
  EXPECT_FAILS(open(ZipWriter().add("x", "y", {.method = 93}).done()), kUnsupported, "zstd");
  EXPECT_FAILS(open(ZipWriter().add("x", "y", {.flags = 1}).done()), kUnsupported, "x is encrypted");
}

TEST(ZipArchive, EntriesOutsideTheFileOrOverlappingAreRefused) {
  EXPECT_FAILS(open(ZipWriter().add("x", "y", {.size_change = 1000}).done()), kInvalid, "reach past");
  EXPECT_FAILS(open(ZipWriter().add("x", "y", {.size_change = INT64_MAX - 8, .zip64 = true}).done(true)), kInvalid,
               "reach past");
  EXPECT_FAILS(open(ZipWriter().add("x", "y", {.offset_change = 1 << 20}).done()), kInvalid, "outside the file");
  EXPECT_FAILS(open(ZipWriter().add("x", "y", {.offset_change = -8, .zip64 = true}).done(true)), kInvalid,
               "outside the file");
  EXPECT_FAILS(open(ZipWriter().add("x", "y", {.offset_change = 1}).done()), kInvalid, "no header at byte 1");
  // Both entries point at the first's header.
  const std::string first = ZipWriter().add("x", "same size").done();
  const int64_t step = -64 - 9;
  EXPECT_FAILS(open(ZipWriter().add("x", "same size").add("y", "same size", {.offset_change = step}).done()), kInvalid,
               "overlap");
  EXPECT_FAILS(open(ZipWriter().add("x", "1", {.size_change = 80}).add("y", std::string(200, 'y')).done()), kInvalid,
               "overlap");
  EXPECT_FAILS(open(ZipWriter().add("x", "1").add("x", "2").done()), kInvalid, "x is there twice");
}

TEST(ZipArchive, EntryCountsThatDoNotFitAreRefused) {
  EXPECT_FAILS(open(two_entries().done(false, 1)), kInvalid, "3 zip entries do not fit");
  EXPECT_FAILS(open(two_entries().done(false, 60'000)), kInvalid, "do not fit");
  EXPECT_FAILS(open(two_entries().done(true, uint64_t{1} << 62)), kInvalid, "do not fit");
}

TEST(ZipArchive, ManyEntriesAreRead) {
  ZipWriter zip;
  for (int i = 0; i < 20'000; ++i) zip.add(std::to_string(i), "x");
  EXPECT_TRUE(open(zip.done(true)).has_value());
}

TEST(ZipArchive, EveryTruncationIsAnError) {
  for (const bool zip64 : {false, true}) {
    const std::string bytes = two_entries().done(zip64);
    for (size_t n = 0; n < bytes.size(); ++n) EXPECT_FALSE(open(bytes.substr(0, n)).has_value()) << n;
    EXPECT_TRUE(open(bytes).has_value());
  }
}

TEST(ZipArchive, FlippedBitsNeverCrash) {
  std::mt19937 rng(2);
  for (const bool zip64 : {false, true}) {
    const std::string bytes = two_entries().done(zip64);
    int readable = 0;
    for (int i = 0; i < 10'000; ++i) readable += open(test::flip_bits(bytes, rng)).has_value() ? 1 : 0;
    EXPECT_GT(readable, 0);
    EXPECT_LT(readable, 10'000);
  }
}

}  // namespace
}  // namespace shoehorn::io
