// Matrices that a checkpoint has as whole numbers of few bits: what other programs quantized. A method is one file in packed/ and one
// row in packed.inc.
#pragma once

#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "io/checkpoint_tensor.h"
#include "quant/format.h"

namespace shoehorn::io {

/// A matrix [n_rows, n_cols], decoded row by row from what is stored of it. Immutable.
class PackedMatrix {
 public:
  PackedMatrix(uint64_t n_rows, uint64_t n_cols, std::vector<StoredTensor> parts)
      : n_rows_(n_rows), n_cols_(n_cols), parts_(std::move(parts)) {}
  virtual ~PackedMatrix() = default;

  /// Rows [first, first + n) to out [n, n_cols]. Thread-safe.
  virtual void read(uint64_t first, uint64_t n, float* out) const = 0;
  /// The GGUF type that holds the very same numbers; nothing: none does.
  virtual std::optional<quant::Type> same_as() const { return std::nullopt; }
  /// Rows [first, first + n) in that type, [n, row_bytes]. Fails when a scale is not finite.
  virtual Status encode(uint64_t first, uint64_t n, std::byte* out) const;

  uint64_t n_rows() const { return n_rows_; }
  uint64_t n_cols() const { return n_cols_; }
  /// What it is read from.
  std::span<const StoredTensor> parts() const { return parts_; }
  /// Starts to fetch the mapped pages of these, and lets go of them: rows lie across all of what is stored.
  void expect() const;
  void release() const;

 private:
  uint64_t n_rows_, n_cols_;
  std::vector<StoredTensor> parts_;
};

/// A checkpoint's stored tensors by name, of which a method takes those that it knows.
class StoredSet {
 public:
  /// Fails when a name is there twice.
  static Expected<StoredSet> of(std::vector<StoredTensor> tensors);

  /// The names that end in `suffix`, without it, in order.
  std::vector<std::string> modules(std::string_view suffix) const;
  bool contains(const std::string& name) const { return tensors_.contains(name); }
  /// Takes a tensor out. Fails naming it when it is missing, a view with gaps, of another dtype or number of dimensions.
  Expected<StoredTensor> take(const std::string& name, std::initializer_list<DType> dtypes, size_t n_dims);
  /// Takes out what is not needed, if it is there.
  void drop(const std::string& name) { tensors_.erase(name); }
  /// What nobody took.
  std::vector<StoredTensor> rest() &&;

 private:
  std::map<std::string, StoredTensor> tensors_;
};

/// A method's own way to store matrices.
struct Packing {
  const char* method;  ///< "quant_method" in config.json's "quantization_config"
  /// Takes the packed matrices out of `tensors`, as tensors "MODULE.weight" whose `packed` is set. `quantization`: what config.json says
  /// of it. Fails naming key or tensor when something is missing, of another shape, or of a width that is not known.
  Expected<std::vector<CheckpointTensor>> (*unpack)(const Json& quantization, StoredSet& tensors);
  /// What GGUF types make of its numbers.
  const char* in_gguf = "no GGUF type has the very same numbers: another quantization rounds them once more";
};

/// How a configuration says that its weights are packed: its "quantization_config", or MLX' "quantization".
struct PackedConfig {
  const Packing* packing = nullptr;  ///< nullptr: they are not
  Json quantization;
};
/// Fails with kUnsupported, naming those that are known, when it is a method that is not.
Expected<PackedConfig> packed_config(const Json& config);

// For the methods.

/// A matrix under its module's name; `dtype`: what its numbers are about as exact as.
CheckpointTensor packed_tensor(const std::string& module, DType dtype, std::shared_ptr<const PackedMatrix> matrix);

/// n values of `bits` bits (1 to 8) from a stream of 32-bit words, lowest bits first, `stride` words apart: element i is at bit i * bits.
/// Words that are not read again are not read twice.
void read_bits(const std::byte* words, uint64_t stride, int bits, uint64_t n, uint8_t* out);

/// One number of a stored tensor, counted in its order.
float float_at(const StoredTensor& tensor, uint64_t i);

/// What scales are stored in.
inline constexpr std::initializer_list<DType> kScaleTypes = {DType::F16, DType::BF16, DType::F32};

/// Takes out the tensor NAME that has a group for each of n_cols columns. Fails as StoredSet::take() does, and when it has another length.
Expected<std::vector<uint32_t>> take_groups(StoredSet& tensors, const std::string& name, uint64_t n_cols);

/// A whole number of a configuration. Fails naming the key when it is missing or another kind.
Expected<int64_t> required_number(const Json& quantization, const char* key);

/// (code - zero) * scale, where code, zero and scale of a group of columns are what a method says.
class GroupedMatrix : public PackedMatrix {
 public:
  using PackedMatrix::PackedMatrix;
  void read(uint64_t first, uint64_t n, float* out) const override;
  std::optional<quant::Type> same_as() const override;
  Status encode(uint64_t first, uint64_t n, std::byte* out) const override;

 protected:
  /// [n_cols]
  virtual void codes(uint64_t row, uint8_t* out) const = 0;
  /// [n_groups] each
  virtual void scales(uint64_t row, float* out) const = 0;
  virtual void zeros(uint64_t row, float* out) const = 0;
  /// True where all zeros are 8 and the codes of 4 bits.
  virtual bool is_symmetric_nibbles() const = 0;

  uint64_t n_groups() const { return n_groups_; }
  /// Groups of `size` columns one behind the other; the last may be shorter.
  void set_groups(uint64_t size);
  /// A group for each column; where they are in order, of `size`, this is the same as the above. Fails when one is not below n_groups.
  Status set_groups(std::vector<uint32_t> of_column, uint64_t size, uint64_t n_groups);
  bool scales_are_f16_ = false;

 private:
  uint64_t group_size_ = 0, n_groups_ = 0;
  std::vector<uint32_t> of_column_;  // empty: by group_size_
};

}  // namespace shoehorn::io
