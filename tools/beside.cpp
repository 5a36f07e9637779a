#include "beside.h"

#include <filesystem>

namespace shoehorn::tools {
namespace fs = std::filesystem;

Status make_empty_directory(const std::string& path) {
  std::error_code error;
  if (fs::exists(path, error) && !fs::is_empty(path, error)) return fail(ErrorCode::kInvalid, "{} is not empty", path);
  fs::create_directories(path, error);
  if (error) return fail(ErrorCode::kIo, "{}: {}", path, error.message());
  return {};
}

Status copy_other_files(const std::string& from, const std::string& to) {
  std::error_code error;
  for (fs::directory_iterator it(from, error), end; !error && it != end; it.increment(error)) {
    const std::string extension = it->path().extension().string();
    if (!it->is_regular_file() || extension == ".safetensors" || extension == ".bin" || it->path().string().ends_with(".index.json")) continue;
    fs::copy_file(it->path(), fs::path(to) / it->path().filename(), fs::copy_options::overwrite_existing, error);
  }
  if (error) return fail(ErrorCode::kIo, "{}: {}", to, error.message());
  return {};
}

}  // namespace shoehorn::tools
