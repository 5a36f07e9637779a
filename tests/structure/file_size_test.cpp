// A source file is one concept; at 1,000 lines it must be split.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "support/support.h"

namespace shoehorn::test {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxLines = 999;

std::vector<std::string> too_long(const fs::path& dir) {
  std::vector<std::string> found;
  for (auto it = fs::recursive_directory_iterator(dir); it != fs::recursive_directory_iterator(); ++it) {
    if (it->path().filename() == "node_modules") it.disable_recursion_pending();
    const std::string extension = it->path().extension().string();
    if (extension != ".h" && extension != ".cpp" && extension != ".inc" && extension != ".inl" && extension != ".mjs")
      continue;
    std::ifstream stream(it->path());
    const auto lines = std::count(std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>(), '\n');
    if (lines > kMaxLines) found.push_back(fs::relative(it->path(), dir).string() + ": " + std::to_string(lines));
  }
  return found;
}

TEST(FileSize, StaysUnderAThousandLines) {
  for (const char* folder : {"src", "tests", "tools", "bench"}) {
    const fs::path dir = fs::path(source_dir()) / folder;
    if (!fs::exists(dir)) continue;
    for (const std::string& file : too_long(dir)) ADD_FAILURE() << folder << '/' << file << " lines";
  }
}

TEST(FileSize, CountsLines) {
  const fs::path dir = temp_dir();
  write_text((dir / "long.cpp").string(), std::string(1000, '\n'));
  write_text((dir / "short.cpp").string(), std::string(999, '\n'));
  EXPECT_EQ(too_long(dir), std::vector<std::string>{"long.cpp: 1000"});
}

}  // namespace
}  // namespace shoehorn::test
