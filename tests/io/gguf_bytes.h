// GGUF written byte by byte, for files that no writer makes.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "io/io_support.h"

namespace shoehorn::test::gguf {

inline constexpr uint32_t kF32 = 0, kQ8_0 = 8;                ///< types of tensors
inline constexpr uint32_t kU32 = 4, kString = 8, kArray = 9;  ///< types of values

inline std::string text(std::string_view s) { return raw(uint64_t{s.size()}) + std::string(s); }
inline std::string key_u32(std::string_view key, uint32_t value) { return text(key) + raw(uint32_t{4}) + raw(value); }
inline std::string header(uint64_t n_tensors, uint64_t n_keys, uint32_t version = 3) {
  return "GGUF" + raw(version) + raw(n_tensors) + raw(n_keys);
}
inline std::string info(std::string_view name, const std::vector<uint64_t>& shape, uint32_t type, uint64_t offset) {
  std::string out = text(name) + raw(static_cast<uint32_t>(shape.size()));
  for (const uint64_t dim : shape) out += raw(dim);
  return out + raw(type) + raw(offset);
}
inline std::string with_data(std::string head, size_t n_data, size_t alignment = 32) {
  head.resize((head.size() + alignment - 1) / alignment * alignment);
  return head + std::string(n_data, 'd');
}

}  // namespace shoehorn::test::gguf
