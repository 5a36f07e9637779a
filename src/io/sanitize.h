// From what checkpoint files hold to the weights of a model: canonical names, no training left-overs.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "io/checkpoint_tensor.h"

namespace shoehorn::io {

struct SanitizedTensors {
  std::vector<CheckpointTensor> tensors;            ///< unique names, contiguous data
  std::vector<std::string> dropped;                 ///< "name (reason)"
  std::vector<std::unique_ptr<std::byte[]>> owned;  ///< copies that tensors without `file` point into
};

/// Copies of views and of masked weights may take this much memory together.
inline constexpr uint64_t kMaxOwnedBytes = uint64_t{4} << 30;

/// Renames, drops and copies:
/// - wrapper prefixes ("module.", "_orig_mod.", "base_model.model." ...) go; a bare LlamaModel ("embed_tokens.weight"
///   without "model.") gets its "model." prefix;
/// - rotary tables, causal-mask buffers, optimizer state, pruners' buffers, scalars and integers are dropped;
/// - W_orig with W_mask (torch.nn.utils.prune) becomes W = W_orig * W_mask; masks must be 0 or 1;
/// - strided views are copied to contiguous memory.
/// Refused, naming the tensor: what is left of quantized checkpoints (io/packed.h takes its own before), unmerged LoRA adapters,
/// W_orig without a mask, two tensors with one name, copies beyond kMaxOwnedBytes.
Expected<SanitizedTensors> sanitize(std::vector<StoredTensor> tensors);

}  // namespace shoehorn::io
