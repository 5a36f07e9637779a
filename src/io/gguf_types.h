// The numbering of GGUF value types, shared by reader and writer.
#pragma once

#include <cstdint>

namespace shoehorn::io {

inline constexpr uint32_t kGgufMagic = 0x46554747;  // "GGUF" read as little-endian
inline constexpr uint32_t kGgufVersion = 3;
inline constexpr uint32_t kGgufDefaultAlignment = 32;

/// GGUF's gguf_metadata_value_type.
enum class GgufType : uint32_t {
  kU8 = 0, kI8 = 1, kU16 = 2, kI16 = 3, kU32 = 4, kI32 = 5, kF32 = 6, kBool = 7, kString = 8, kArray = 9, kU64 = 10,
  kI64 = 11, kF64 = 12,
};

}  // namespace shoehorn::io
