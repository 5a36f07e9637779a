#include "base/disk.h"

namespace shoehorn {
namespace fs = std::filesystem;

fs::path nearest_existing(const fs::path& path) {
  std::error_code error;
  fs::path out = fs::absolute(path, error);
  while (!out.empty() && !fs::exists(out, error) && out != out.parent_path()) out = out.parent_path();
  return out;
}

}  // namespace shoehorn
