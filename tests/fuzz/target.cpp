#include "fuzz/target.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>

namespace shoehorn::fuzz {

#define SHOEHORN_FUZZ_TARGET(name, sources) std::string run_##name(std::string_view input);
#include "fuzz/targets.inc"
#undef SHOEHORN_FUZZ_TARGET

namespace {

constexpr const char* kScratch = "shoehorn-fuzz-";

constexpr Target kTargets[] = {
#define SHOEHORN_FUZZ_TARGET(name, sources) {#name, sources, run_##name},
#include "fuzz/targets.inc"
#undef SHOEHORN_FUZZ_TARGET
};

}  // namespace

std::string run(const Target& target, std::string_view input) {
  std::string message = target.read(input);
  constexpr size_t kDrawn = 6;  // characters that mkdtemp fills in
  for (size_t at; (at = message.find(kScratch)) != std::string::npos;) {
    const size_t space = message.rfind(' ', at), begin = space == std::string::npos ? 0 : space + 1;
    size_t end = std::min(message.size(), at + std::strlen(kScratch) + kDrawn);
    if (end < message.size() && message[end] == '/') ++end;
    message.erase(begin, end - begin);
  }
  return message;
}

std::span<const Target> targets() { return kTargets; }

const Target* find_target(std::string_view name) {
  for (const Target& target : kTargets) {
    if (name == target.name) return &target;
  }
  return nullptr;
}

Scratch::Scratch() {
  // In memory where this user may write there.
  for (const std::string& parent : {std::string("/dev/shm"), std::filesystem::temp_directory_path().string()}) {
    std::string pattern = parent + "/" + kScratch + "XXXXXX";
    if (mkdtemp(pattern.data()) == nullptr) continue;
    path_ = pattern;
    return;
  }
  std::abort();
}

Scratch::~Scratch() {
  std::error_code error;
  std::filesystem::remove_all(path_, error);
}

std::string Scratch::write(std::string_view name, std::string_view bytes) const {
  const std::string path = path_ + "/" + std::string(name);
  std::FILE* file = std::fopen(path.c_str(), "wb");
  if (file == nullptr || std::fwrite(bytes.data(), 1, bytes.size(), file) != bytes.size()) std::abort();
  std::fclose(file);
  return path;
}

}  // namespace shoehorn::fuzz
