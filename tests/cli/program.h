// The program under test, run as a user runs it.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace shoehorn::test {

struct Result {
  int exit_code;   ///< 128 + the signal's number when one ended it
  std::string out, err;
  int64_t max_rss_kib = 0;   ///< the most that was resident at a time
};

/// A run of shoehorn with its own stdin, stdout and stderr files.
class Program {
 public:
  /// `in_child` runs in the new process, before shoehorn does.
  explicit Program(std::vector<std::string> arguments, const std::string& input = "", const std::map<std::string, std::string>& environment = {},
                   const std::function<void()>& in_child = {});
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  Result wait();
  void signal(int number) const;
  bool running() const;
  /// Where its open files are; a file without a name is called DIRECTORY/#NUMBER (deleted).
  std::vector<std::string> open_files() const;
  pid_t pid() const { return pid_; }

 private:
  std::string dir_;
  pid_t pid_ = -1;
};

/// Runs it to its end.
Result run(std::vector<std::string> arguments, const std::string& input = "");

}  // namespace shoehorn::test
