// GGUF v2/v3: one file that holds a model. Format: github.com/ggml-org/ggml/blob/master/docs/gguf.md, and docs/formats.md here.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/digest.h"
#include "base/mapped_file.h"
#include "base/output_file.h"
#include "base/status.h"
#include "quant/format.h"

namespace shoehorn::io {

/// An array value; elements of one type.
using GgufArray = std::variant<std::vector<uint8_t>, std::vector<int8_t>, std::vector<uint16_t>, std::vector<int16_t>,
                               std::vector<uint32_t>, std::vector<int32_t>, std::vector<float>, std::vector<bool>,
                               std::vector<std::string>, std::vector<uint64_t>, std::vector<int64_t>, std::vector<double>>;

/// A metadata value. The alternative decides the type that is written.
using GgufValue = std::variant<uint8_t, int8_t, uint16_t, int16_t, uint32_t, int32_t, float, bool, std::string, GgufArray,
                               uint64_t, int64_t, double>;

/// Metadata in file order with unique keys.
class GgufMetadata {
 public:
  /// Replaces the value of an existing key in place, else appends.
  void set(std::string key, GgufValue value);
  /// Removes a key; does nothing when it is not there.
  void erase(std::string_view key);
  bool contains(std::string_view key) const { return find(key) != nullptr; }
  /// nullptr when absent.
  const GgufValue* find(std::string_view key) const;

  /// Typed look-ups: nothing when absent or of another kind. Integers of any width convert when the value fits.
  std::optional<uint64_t> get_uint(std::string_view key) const;
  std::optional<int64_t> get_int(std::string_view key) const;
  std::optional<double> get_float(std::string_view key) const;
  std::optional<bool> get_bool(std::string_view key) const;
  const std::string* get_string(std::string_view key) const;
  const std::vector<std::string>* get_strings(std::string_view key) const;
  /// Any integer array widened; nothing when absent, not an integer array, or a value does not fit int64.
  std::optional<std::vector<int64_t>> get_ints(std::string_view key) const;
  std::optional<std::vector<float>> get_floats(std::string_view key) const;

  const std::vector<std::pair<std::string, GgufValue>>& entries() const { return entries_; }

 private:
  std::vector<std::pair<std::string, GgufValue>> entries_;
  std::map<std::string, size_t, std::less<>> index_;
};

struct GgufTensor {
  std::string name;
  quant::Type type;
  std::vector<uint64_t> shape;            ///< fastest-varying first, as GGUF has it: [n_cols, n_rows, ...]
  std::span<const std::byte> data;        ///< in the mapping, row-major rows of shape[0] weights
  const MappedFile* file = nullptr;       ///< where `data` is mapped

  uint64_t n_cols() const { return shape.empty() ? 1 : shape[0]; }
  /// Product of all dimensions but the first.
  uint64_t n_rows() const;
  uint64_t n_elements() const { return n_cols() * n_rows(); }
  /// Some of its rows, which must be there, as a matrix of their own; of a vector, whose type must not be one of blocks: elements.
  GgufTensor rows(uint64_t first, uint64_t n) const;
};

/// An open GGUF, all parts of a split file together. Everything is checked on open: after that every tensor's data lies
/// inside its mapping and every name and key is unique. Movable; tensors point into the mappings.
class GgufFile {
 public:
  /// Opens FILE.gguf, or all parts when it is named NAME-00001-of-000NN.gguf. Errors name file, tensor or key, value and limit.
  static Expected<GgufFile> open(const std::string& path, FileMode mode = FileMode::kMap);

  /// Tensors that lie elsewhere, as one file; `owner` keeps them there. Their names must be unique.
  static GgufFile of(std::string path, GgufMetadata metadata, std::vector<GgufTensor> tensors, std::shared_ptr<const void> owner);

  /// Keeps all parts in memory, see MappedFile::lock().
  Status lock() const;

  const GgufMetadata& metadata() const { return metadata_; }
  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  /// nullptr when there is no such tensor.
  const GgufTensor* find(std::string_view name) const;
  const std::string& path() const { return path_; }
  /// Sum of the sizes of all parts; of tensors that lie elsewhere, of their data.
  uint64_t file_bytes() const;
  uint32_t version() const { return version_; }

 private:
  Status open_part(const std::string& path, FileMode mode, bool first);

  std::string path_;
  uint32_t version_ = 0;
  std::vector<std::unique_ptr<MappedFile>> files_;
  GgufMetadata metadata_;
  std::vector<GgufTensor> tensors_;
  std::map<std::string, size_t, std::less<>> index_;
  std::shared_ptr<const void> owner_;
};

/// What a tensor's bytes were when they were written.
struct TensorHash {
  std::string sha256;  ///< 64 lower-case hexadecimal digits
  std::string type;    ///< "Q4_K"; "" when it is not known
  std::string name;
};

/// Writes a GGUF v3, streaming: declare all tensors, then append their data in that order.
class GgufWriter {
 public:
  void set(std::string key, GgufValue value) { metadata_.set(std::move(key), std::move(value)); }
  GgufMetadata& metadata() { return metadata_; }
  /// Shape as GGUF has it, fastest first. The row length must be a multiple of the type's block.
  Status add_tensor(std::string name, quant::Type type, std::vector<uint64_t> shape);
  /// The size of the finished file.
  uint64_t file_bytes() const;

  /// Has the SHA-256 of every tensor's bytes, as they are appended, written among the metadata (io/tensor_hashes.h). After the last
  /// add_tensor(), before begin().
  void hash_tensors();

  /// Writes header, metadata and tensor infos to a temporary file beside `path`.
  Status begin(const std::string& path);
  /// Appends data of the current tensor; moves on (with padding) when it is complete.
  Status append(std::span<const std::byte> bytes);
  /// Once all tensors are complete: a path under which the file can be read before it has its name.
  Expected<std::string> readable_path();
  /// Gives keys that are there other values, of the same size, in what is already written.
  Status replace(const std::vector<std::pair<std::string, GgufValue>>& values);
  /// All tensors must be complete. Syncs and renames.
  Status commit();

 private:
  struct Info {
    std::string name;
    quant::Type type;
    std::vector<uint64_t> shape;
    uint64_t offset, bytes;
  };
  std::vector<std::byte> header() const;
  /// Fails when tensors lack data; completes the hashes when none does.
  Status complete();
  Status write_header();

  GgufMetadata metadata_;
  std::vector<Info> tensors_;
  uint64_t data_bytes_ = 0;
  size_t current_ = 0;
  uint64_t written_ = 0;
  bool hashes_ = false;
  Digest digest_;
  std::vector<TensorHash> hashed_;
  OutputFile out_;
};

}  // namespace shoehorn::io
