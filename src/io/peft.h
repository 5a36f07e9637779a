// A PEFT adapter's two files: adapter_config.json and adapter_model.safetensors.
// Format: github.com/huggingface/peft, "PEFT checkpoint format".
#pragma once

#include <map>
#include <string>

#include "base/mapped_file.h"
#include "io/checkpoint_tensor.h"

namespace shoehorn::io {

/// What the names of an adapter's tensors begin with.
inline constexpr const char* kPeftPrefix = "base_model.model.";

struct PeftAdapter {
  int64_t rank = 0;
  double alpha = 0;  ///< for a scale of alpha / rank, rslora's included
  double dropout = 0;
  std::string weights_path;
  MappedFile file;  ///< that the tensors lie in
  std::map<std::string, StoredTensor, std::less<>>
      tensors;  ///< by name without the prefix: "model.layers.0.self_attn.q_proj.lora_A.weight"
};

/// Reads DIR. Every tensor is floating point and a lora_A [rank, n_in] or lora_B [n_out, rank], so that the rank is one
/// that the file pays for in bytes. Fails naming file and key or tensor: damage, and what plain LoRA has not (DoRA,
/// biases, embeddings, ranks by pattern).
Expected<PeftAdapter> read_peft(const std::string& directory);

}  // namespace shoehorn::io
