// The file of all answers of an evaluation, one JSON object a line.
#pragma once

#include <cstdio>
#include <string>
#include <unordered_map>
#include <vector>

#include "eval/task.h"

namespace shoehorn::cli {

/// Items go to PATH.partial as they are answered and become PATH when all are there. A run that is stopped leaves
/// PATH.partial, and the same run, started again, goes on from it.
class AnswersFile : public eval::ItemLog {
 public:
  /// `run` says what is evaluated and how: what an earlier run with another one left is not used.
  static Expected<AnswersFile> open(const std::string& path, const Json& run);
  AnswersFile(AnswersFile&& other) noexcept;
  ~AnswersFile() override;

  const eval::ItemResult* find(const std::string& id) const override;
  Status add(const eval::ItemResult& item) override;
  size_t n_found() const { return known_.size(); }

  /// Writes the items to PATH and removes PATH.partial.
  Status commit(const std::vector<eval::ItemResult>& items);

 private:
  AnswersFile() = default;
  std::string partial() const { return path_ + ".partial"; }

  std::string path_;
  std::FILE* stream_ = nullptr;
  std::unordered_map<std::string, eval::ItemResult> known_;
};

/// The items of a file that commit() wrote. Fails with "PATH:LINE: ..." for a line without "id" and "task".
Expected<std::vector<eval::ItemResult>> read_answers(const std::string& path);

}  // namespace shoehorn::cli
