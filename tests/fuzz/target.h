// Everything that reads bytes from outside, one target each: what the fuzzer calls, and what the tests call with files
// that were found once, and with damaged ones.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/status.h"

namespace shoehorn::fuzz {

struct Target {
  const char* name;
  /// The files of src whose lines its inputs are to reach, with spaces between.
  const char* sources;
  /// Reads the input as the program would. "" when it was taken, else the message with which it was refused. See run().
  std::string (*read)(std::string_view input);
};

/// The target's answer, without the name of the directory that its input was written to.
std::string run(const Target& target, std::string_view input);

/// All targets in the order of targets.inc.
std::span<const Target> targets();
/// nullptr when there is none of this name.
const Target* find_target(std::string_view name);

/// A directory in memory that one input after another is written to.
class Scratch {
 public:
  Scratch();
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  const std::string& path() const { return path_; }
  /// The path of the file NAME, with these bytes.
  std::string write(std::string_view name, std::string_view bytes) const;

 private:
  std::string path_;
};

/// The error's message, or "".
template <class T>
std::string message_of(const Expected<T>& result) {
  return result ? std::string() : result.error().message;
}

}  // namespace shoehorn::fuzz
