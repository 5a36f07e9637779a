// Directories of checkpoints that are made of others.
#pragma once

#include <string>

#include "base/status.h"

namespace shoehorn::tools {

/// Fails when it holds something.
Status make_empty_directory(const std::string& path);

/// Everything but weights.
Status copy_other_files(const std::string& from, const std::string& to);

}  // namespace shoehorn::tools
