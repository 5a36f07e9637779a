// One tensor of a checkpoint, as the file formats deliver it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/mapped_file.h"
#include "io/dtype.h"

namespace shoehorn::io {

class PackedMatrix;  // io/packed.h

struct CheckpointTensor {
  std::string name;  ///< canonical: no wrapper prefixes ("model.layers.0.mlp.up_proj.weight")
  DType dtype;
  std::vector<uint64_t> shape;       ///< slowest first, as safetensors and torch have it: [n_rows, n_cols]
  /// Row-major, from the first row to the last one; not necessarily aligned for its type. Empty where the matrix is packed.
  std::span<const std::byte> data;
  const MappedFile* file = nullptr;  ///< the mapping `data` lies in; nullptr when the Checkpoint owns a copy
  /// > 0: the rows lie in runs of so many, which begin every `stride` rows. 0: in one piece.
  uint64_t run = 0, stride = 0;
  /// What the rows are decoded from, of which `packed_row` is the first; `dtype` is then what they are about as exact as.
  std::shared_ptr<const PackedMatrix> packed = nullptr;
  uint64_t packed_row = 0;

  /// Where a row lies, counted from the first one.
  uint64_t place_of(uint64_t row) const { return run == 0 ? row : row / run * stride + row % run; }

  uint64_t n_elements() const;
  /// n of its rows, which must be there; of a vector: elements. `run` > 0: in runs of so many, which begin every `stride` rows.
  /// The tensor itself must be in one piece.
  CheckpointTensor rows(uint64_t first, uint64_t n, uint64_t run = 0, uint64_t stride = 0) const;
  /// What rows [first, first + n) lie in; of a vector: elements. Empty where the matrix is packed.
  std::span<const std::byte> bytes_of(uint64_t first, uint64_t n) const;

  /// It will be read soon: starts to fetch the mapped pages of all that it is read from.
  void expect() const;
  /// It will not be read again soon: lets go of them.
  void release() const;
};

/// Rows [first, first + n), of a vector elements, as they are, to out.
void copy_rows(const CheckpointTensor& tensor, uint64_t first, uint64_t n, std::byte* out);

/// Converts `count` elements starting at `first` to float; the tensor must be floating and the range inside it.
void read_floats(const CheckpointTensor& tensor, uint64_t first, uint64_t count, float* out);

/// A tensor as one file holds it, before names are cleaned and views are copied. Its bytes are known to be inside the
/// file.
struct StoredTensor {
  std::string name;
  DType dtype;
  std::vector<uint64_t> shape;
  /// Elements between neighbours along each dimension; empty when `data` is row-major and contiguous.
  std::vector<uint64_t> stride = {};
  std::span<const std::byte> data =
      {};                            ///< starts at the first element; for a strided view it reaches past the last one
  const MappedFile* file = nullptr;  ///< set by whoever mapped the bytes
};

/// More dimensions than any tensor of a language model has.
inline constexpr size_t kMaxTensorDims = 16;
/// More tensors than any checkpoint has (the largest mixtures of experts have some 100,000).
inline constexpr size_t kMaxTensors = 1'000'000;

/// The product of all dimensions, or nothing when it wraps.
std::optional<uint64_t> element_count(std::span<const uint64_t> shape);

/// Text from a file made fit for a message: other than printable ASCII as \xNN, at most 120 characters.
std::string printable(std::string_view text);

}  // namespace shoehorn::io
