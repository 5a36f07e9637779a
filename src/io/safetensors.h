// The safetensors format: an 8-byte little-endian header length, a JSON header, then the tensors' bytes.
// Format: github.com/huggingface/safetensors, README "Format".
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/output_file.h"
#include "base/status.h"
#include "io/checkpoint_tensor.h"

namespace shoehorn::io {

/// The tensors of one file's bytes in the order of their data. Zero copy: `data` points into `bytes`. Fails naming file
/// (`path` is for messages only) and tensor: truncated or oversized header, unknown dtype, wrong byte count, range
/// outside the file, overlap, duplicate name. Gaps between tensors are allowed, `__metadata__` is ignored.
Expected<std::vector<StoredTensor>> read_safetensors(std::span<const std::byte> bytes, const std::string& path);

/// Writes the weights of a Hugging Face directory, streaming: declare all tensors, begin, append their data in that
/// order, commit. Nothing appears under its final name before commit(); destroyed without it, nothing is left behind.
class SafetensorsWriter {
 public:
  /// What Hugging Face calls "5GB".
  static constexpr uint64_t kDefaultShardBytes = 5'000'000'000;

  /// Shape slowest first. Fails on a duplicate name or a size that wraps.
  Status add_tensor(std::string name, DType dtype, std::vector<uint64_t> shape);

  /// The bytes of all tensors, without headers.
  uint64_t total_bytes() const { return total_bytes_; }

  /// Starts writing to DIR (which must exist): model.safetensors, or, when the tensors are more than `max_shard_bytes`
  /// (0 = one file), model-00001-of-0000N.safetensors and model.safetensors.index.json. A tensor larger than the limit
  /// has a shard of its own. Fails when the disk is too small, or when DIR holds weights under other names, which a
  /// reader would mix up with the new ones.
  Status begin(const std::string& directory, uint64_t max_shard_bytes = kDefaultShardBytes);

  /// Starts writing all tensors to the one file `path`.
  Status begin_file(const std::string& path);

  /// Appends row-major bytes of the current tensor, any number at a time but not past its end; moves on when it is
  /// complete.
  Status append(std::span<const std::byte> bytes);

  /// All tensors must be complete. Syncs and renames the files, the index last.
  Status commit();

 private:
  struct Info {
    std::string name;
    DType dtype;
    std::vector<uint64_t> shape;
    uint64_t bytes;
    size_t shard;
  };

  Status check_names() const;
  Status start();
  size_t assign_shards(uint64_t max_shard_bytes);
  std::string shard_name(size_t shard) const;
  std::string header(size_t shard) const;
  Status open_shard(size_t shard);
  Status skip_empty();

  std::vector<Info> tensors_;
  uint64_t total_bytes_ = 0;
  std::string directory_;
  std::string file_name_ = "model.safetensors";  // when there is one file
  size_t n_shards_ = 0;
  std::vector<OutputFile> shards_;
  size_t current_ = 0;    // tensor being written
  uint64_t written_ = 0;  // its bytes so far
};

}  // namespace shoehorn::io
