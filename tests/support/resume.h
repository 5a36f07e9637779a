// What tests of resumable work have in common: stopping it half-way, and comparing what it wrote byte by byte.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/progress.h"
#include "support/support.h"

namespace shoehorn::test {

/// All files of a directory and those below it, by relative path.
inline std::map<std::string, std::vector<std::byte>> contents(const std::string& directory) {
  std::map<std::string, std::vector<std::byte>> out;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
    if (entry.is_regular_file()) out[std::filesystem::relative(entry.path(), directory)] = read_bytes(entry.path());
  }
  return out;
}

/// Asks to stop after n reports of progress.
class StopsAfter : public NoProgress {
 public:
  explicit StopsAfter(int n) : left_(n) {}
  void advance(uint64_t) override { --left_; }
  bool cancelled() const override { return left_ <= 0; }

 private:
  int left_;
};

}  // namespace shoehorn::test
