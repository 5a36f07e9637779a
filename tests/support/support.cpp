#include "support/support.h"

#include <stdlib.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace shoehorn::test {
namespace fs = std::filesystem;

std::string source_dir() { return SHOEHORN_SOURCE_DIR; }

std::string shared_path(const std::string& relative) {
  const fs::path path = fs::path(SHOEHORN_SOURCE_DIR) / ".." / "shared" / relative;
  return fs::exists(path) ? path.lexically_normal().string() : std::string();
}

bool require_shared() {
  const char* value = std::getenv("SHOEHORN_REQUIRE_SHARED");
  return value != nullptr && std::string(value) == "1";
}

std::string temp_dir() {
  struct Holder {
    std::vector<std::string> paths;
    ~Holder() {
      std::error_code ignored;
      for (const auto& path : paths) fs::remove_all(path, ignored);
    }
  };
  static Holder holder;
  std::string name = (fs::temp_directory_path() / "shoehorn-test-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) std::abort();
  holder.paths.push_back(name);
  return name;
}

std::string read_text(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

void write_text(const std::string& path, const std::string& text) {
  std::ofstream out(path, std::ios::binary);
  out << text;
}

std::vector<std::byte> read_bytes(const std::string& path) {
  const std::string text = read_text(path);
  const auto* data = reinterpret_cast<const std::byte*>(text.data());
  return {data, data + text.size()};
}

void write_bytes(const std::string& path, const std::vector<std::byte>& bytes) {
  write_text(path, std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

}  // namespace shoehorn::test
