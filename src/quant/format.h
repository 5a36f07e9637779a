// The table of block formats. A format is one file in this folder plus one row in formats.inc.
//
// Every format splits a row of weights into blocks of `block_size`. A block of any format is, mathematically,
//     w[i] = scale[i / 16] * q[i] - min[i / 16]
// with small integers q, one scale and one min per 16 consecutive weights. `unpack` yields exactly these, and decode,
// dot and the engine's matrix kernels are built on it once for all formats. The float formats (F32, F16, BF16) have no
// such form and bring decode and dot of their own. Layouts follow the GGUF/ggml definition; docs/formats.md writes them
// down.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/status.h"

namespace shoehorn::quant {

/// Values are the GGUF type ids.
enum class Type : uint32_t {
#define SHOEHORN_FORMAT(name, gguf_id, ns) name = gguf_id,
#include "quant/formats.inc"
#undef SHOEHORN_FORMAT
};

struct SearchedGrid;  // quant/panel.h

struct Format {
  Type type;
  const char* name;      ///< GGUF's name: "Q4_K"
  uint32_t block_size;   ///< weights per block
  uint32_t block_bytes;  ///< bytes per block
  bool quantized;        ///< false for F32/F16/BF16

  /// n weights (a multiple of block_size) from `in` to out.
  void (*decode)(const void* in, float* out, size_t n);

  /// Round to nearest with the best scale search we have. importance: [n] non-negative weights of the squared error per
  /// column, or nullptr (then the format's own default weighting). Deterministic. Finite input required.
  void (*encode)(const float* in, const float* importance, void* out, size_t n);

  /// sum_i decode(row)[i] * x[i], the scalar reference that every kernel is tested against.
  float (*dot)(const void* row, const float* x, size_t n);

  /// The grid that encode searches, for what rounds by other rules than encode; nullptr where there is no such grid.
  const SearchedGrid* grid = nullptr;
};

/// All formats in the order of formats.inc.
std::span<const Format> formats();

/// The row of a type.
const Format& format(Type type);

/// nullptr when the id is not in the table.
const Format* find_format(uint32_t gguf_id);

/// Case-insensitive ("q4_K" is Q4_K); nullptr when unknown.
const Format* find_format(std::string_view name);

/// The GGUF name of a type id that exists in the format but that we do not implement, "" when the id is unassigned.
/// For error messages.
std::string_view foreign_type_name(uint32_t gguf_id);

/// Bytes of a row of n weights; n must be a multiple of the block size.
inline uint64_t row_bytes(const Format& f, uint64_t n) { return n / f.block_size * f.block_bytes; }

}  // namespace shoehorn::quant
