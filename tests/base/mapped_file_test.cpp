#include "base/mapped_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string_view>

#include "support/support.h"

namespace shoehorn {
namespace {

std::string_view view(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

TEST(MappedFile, MapsTheWholeFile) {
  const std::string path = test::temp_dir() + "/f";
  for (const size_t size : {size_t{1}, size_t{4095}, size_t{4096}, size_t{4097}, size_t{1'000'000}}) {
    std::string text(size, 'x');
    text.back() = 'y';
    test::write_text(path, text);
    ASSERT_EXPECTED(const auto file, MappedFile::open(path));
    EXPECT_EQ(view(file), text);
    EXPECT_EQ(file.path(), path);
  }
}

TEST(MappedFile, AnEmptyFileIsAnEmptySpan) {
  const std::string path = test::temp_dir() + "/empty";
  test::write_text(path, "");
  ASSERT_EXPECTED(const auto file, MappedFile::open(path));
  EXPECT_TRUE(file.bytes().empty());
  file.release(file.bytes());
}

TEST(MappedFile, WhatCannotBeMappedIsNamed) {
  const std::string dir = test::temp_dir();
  auto result = MappedFile::open(dir + "/absent");
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code, ErrorCode::kNotFound);
  EXPECT_NE(result.error().message.find("/absent"), std::string::npos);
  result = MappedFile::open(dir);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code, ErrorCode::kIo);
  EXPECT_NE(result.error().message.find(dir), std::string::npos);
  EXPECT_FALSE(MappedFile::open("/dev/null").has_value());
  EXPECT_FALSE(MappedFile::open("").has_value());
}

TEST(MappedFile, OutlivesItsNameAndMoves) {
  const std::string path = test::temp_dir() + "/f";
  test::write_text(path, "content");
  ASSERT_EXPECTED(MappedFile file, MappedFile::open(path));
  unlink(path.c_str());
  MappedFile moved = std::move(file);
  EXPECT_EQ(view(moved), "content");
  MappedFile assigned;
  assigned = std::move(moved);
  EXPECT_EQ(view(assigned), "content");
}

TEST(MappedFile, ReleasedPagesCanBeReadAgain) {
  const std::string path = test::temp_dir() + "/f";
  std::string text(100'000, 'a');
  for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * 7);
  test::write_text(path, text);
  ASSERT_EXPECTED(const auto file, MappedFile::open(path));
  ASSERT_EQ(view(file), text);
  file.release(file.bytes());
  EXPECT_EQ(view(file), text);
  for (size_t begin = 0; begin < 10'000; begin += 997) {
    file.release(file.bytes().subspan(begin, 20'000));
    file.release(file.bytes().subspan(begin, 0));
    file.release(file.bytes().subspan(text.size() - begin, begin));
  }
  EXPECT_EQ(view(file), text);
}

}  // namespace
}  // namespace shoehorn
