// Weights that torch.save wrote: a zip of one pickle and the storages' bytes (pytorch_model.bin, .pt, .pth). The pickle
// is a state dict or a whole model object, as LLM-Pruner saves it.
// Format: pytorch torch/serialization.py (_save) and torch/_utils.py.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/status.h"
#include "io/checkpoint_tensor.h"

namespace shoehorn::io {

/// What a pickled model object says about itself beside its tensors.
struct PickledModel {
  std::string class_name;  ///< "LlamaForCausalLM"
  Json config;             ///< what its config.json would hold; null when it has no configuration
  int64_t head_dim = 0;    ///< of its attention modules; 0 when they do not say
};

struct TorchFile {
  std::vector<StoredTensor> tensors;  ///< in the order of the dict; views carry strides
  std::vector<std::string> dropped;   ///< entries that are not tensors, or not the model's, as "name (reason)"
  std::optional<PickledModel> model;  ///< when the file holds one
};

/// True when the bytes look like a file of torch.save from before the zip format (torch < 1.6).
bool is_legacy_torch(std::span<const std::byte> bytes);

/// Reads one file's bytes; `path` is for messages. Zero copy. The dict may be nested: the keys "model", "state_dict",
/// "module" and their like leave no trace in the names, optimizer state and settings are dropped, other keys are joined
/// by ".". Of a torch.nn.Module the tensors are found that its state_dict() would hold, under the same names. Functions
/// that the pickle calls are listed as dropped. Fails naming file and tensor: a damaged zip, a tensor outside its
/// storage, something else where a tensor belongs.
Expected<TorchFile> read_pytorch_bin(std::span<const std::byte> bytes, const std::string& path);

}  // namespace shoehorn::io
