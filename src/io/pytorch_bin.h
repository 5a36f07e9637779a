// Weights that torch.save wrote: a zip of one pickle and the storages' bytes (pytorch_model.bin, .pt, .pth).
// Format: pytorch torch/serialization.py (_save) and torch/_utils.py.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "io/checkpoint_tensor.h"

namespace shoehorn::io {

struct TorchFile {
  std::vector<StoredTensor> tensors;  ///< in the order of the dict; views carry strides
  std::vector<std::string> dropped;   ///< entries that are not tensors, or not the model's, as "name (reason)"
};

/// True when the bytes look like a file of torch.save from before the zip format (torch < 1.6).
bool is_legacy_torch(std::span<const std::byte> bytes);

/// Reads the state dict of one file's bytes; `path` is for messages. Zero copy. The dict may be nested: the keys
/// "model", "state_dict", "module" and their like leave no trace in the names, optimizer state and settings are
/// dropped, other keys are joined by ".". Fails naming file and tensor: a damaged zip, a pickle that wants more than
/// tensors, a tensor outside its storage.
Expected<TorchFile> read_pytorch_bin(std::span<const std::byte> bytes, const std::string& path);

}  // namespace shoehorn::io
