#include "eval/sysfs.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <string_view>

namespace shoehorn::eval {

Expected<std::string> read_small_file(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  std::string text(65536, '\0');
  const ssize_t n = fd < 0 ? -1 : read(fd, text.data(), text.size());
  const int error = errno;
  if (fd >= 0) close(fd);
  if (n < 0) {
    const bool absent = error == ENOENT || error == ENODEV || error == ENXIO;
    return fail(absent ? ErrorCode::kNotFound : ErrorCode::kIo, "{}: {}", path, std::strerror(error));
  }
  text.resize(static_cast<size_t>(n));
  text.resize(text.find_last_not_of(std::string_view("\n \0", 3)) + 1);  // device trees end their strings with a zero
  return text;
}

Expected<double> read_number_file(const std::string& path) {
  SHOEHORN_TRY(const std::string text, read_small_file(path));
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) {
    return fail(ErrorCode::kInvalid, "{}: \"{}\" is not a number", path, text.substr(0, 40));
  }
  return value;
}

std::vector<std::string> entries_of(const std::string& directory, const std::string& prefix) {
  std::vector<std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    std::string name = it->path().filename().string();
    if (name.starts_with(prefix)) names.push_back(std::move(name));
  }
  std::ranges::sort(names, [](const std::string& a, const std::string& b) {
    return a.size() != b.size() ? a.size() < b.size() : a < b;
  });
  for (std::string& name : names) name = directory + "/" + name;
  return names;
}

std::string base_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

}  // namespace shoehorn::eval
