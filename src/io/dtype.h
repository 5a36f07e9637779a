// Element types of checkpoints.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace shoehorn::io {

/// Element types found in checkpoints. Floating ones can be read as float.
/// F8_E4M3 is torch.float8_e4m3fn (no infinities, one NaN pattern), F8_E5M2 is torch.float8_e5m2 (IEEE-like).
enum class DType { F64, F32, F16, BF16, F8_E4M3, F8_E5M2, I64, I32, I16, I8, U64, U32, U16, U8, BOOL };

struct DTypeInfo {
  DType dtype;
  const char* name;  ///< safetensors' name
  uint32_t bytes;
  bool floating;
};
const DTypeInfo& dtype_info(DType dtype);

/// The type that safetensors calls `name`; nothing when there is none.
std::optional<DType> dtype_from_name(std::string_view name);

/// Converts `count` little-endian elements of a floating type to float. `src` needs no alignment. Exact except for F64,
/// which is rounded to nearest.
void decode_floats(DType dtype, const std::byte* src, uint64_t count, float* out);

/// Converts floats to F32, F16 or BF16 (round to nearest even); `out` needs no alignment.
void encode_floats(DType dtype, const float* src, uint64_t count, std::byte* out);

}  // namespace shoehorn::io
