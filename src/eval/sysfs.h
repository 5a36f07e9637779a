// The small text files in which the system says how it is.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"

namespace shoehorn::eval {

/// Where the machine's own files and programs are: "" and its name here; a recorded tree in tests.
struct Host {
  std::string root = "";
  std::string vcgencmd = "vcgencmd";  ///< the Raspberry Pi's firmware tool
};

/// The first 64 KiB of a file without white space at the end. Fails with kNotFound or kIo, path and the system's
/// reason.
Expected<std::string> read_small_file(const std::string& path);
/// The number, whole or with a fraction, that a file holds and nothing else. Fails with kInvalid when it holds
/// something else.
Expected<double> read_number_file(const std::string& path);
/// Paths of the entries of a directory whose names start with `prefix`, shorter names first ("cpu2" before "cpu10").
/// Empty when there is no such directory.
std::vector<std::string> entries_of(const std::string& directory, const std::string& prefix);
/// The name at the end of a path.
std::string base_name(const std::string& path);

}  // namespace shoehorn::eval
