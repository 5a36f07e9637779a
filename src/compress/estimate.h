// What a step will take, told before it starts.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "compress/block_loader.h"

namespace shoehorn::compress {

/// What libtorch, the tokenizer and the program take beside the tensors that are counted.
inline constexpr uint64_t kOverheadBytes = uint64_t{500} << 20;

struct Estimate {
  uint64_t memory_bytes = 0;   ///< at most, beside page cache
  uint64_t output_bytes = 0;   ///< what stays
  uint64_t working_bytes = 0;  ///< saved state and activations beyond the memory, gone when the output is there
  double multiply_adds = 0;    ///< in matrix products
  /// Of a checkpoint that is written: its layers, as they will be on average where widths are searched.
  std::vector<models::LayerShape> layers = {};

  uint64_t disk_bytes() const { return output_bytes + working_bytes; }
  /// As a command prints it; the time is measured on what is computed with.
  Json json(const Compute& compute) const;
};

/// Multiply-adds of one token's way through all blocks, in a sequence of `seq_len` tokens, and through the head.
double block_multiply_adds(const BlockLoader& loader, int64_t seq_len);
double head_multiply_adds(const BlockLoader& loader);

/// Multiply-adds a second that products of a model's sizes reach here; takes a fraction of a second.
double measure_multiply_adds(const Compute& compute);

/// "about 3.1 GiB of memory, 16.2 GiB of disk and 9 minutes". Fails with kTooLarge and the numbers when `directory` has less room.
Expected<std::string> describe(const Estimate& estimate, const Compute& compute, const std::string& directory);

}  // namespace shoehorn::compress
