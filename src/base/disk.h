// Where a file will lie.
#pragma once

#include <filesystem>

namespace shoehorn {

/// The path, or the nearest of the folders above it that is there: what is asked for free space before anything is made.
std::filesystem::path nearest_existing(const std::filesystem::path& path);

}  // namespace shoehorn
