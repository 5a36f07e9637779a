// Adapters as files: PEFT's directory and llama.cpp's GGUF.
#pragma once

#include "compress/heal/lora.h"

namespace shoehorn::compress {

/// adapter_config.json and adapter_model.safetensors (F32). Format: github.com/huggingface/peft, "PEFT checkpoint format".
Status write_peft(const LoraAdapter& adapter, const std::string& base_model, const std::string& directory);

/// Reads a PEFT directory for a model: rank, alpha, target modules, rslora's scale. Fails naming the key or tensor when it holds what
/// plain LoRA has not (DoRA, biases, embeddings), or when shapes do not fit.
Expected<LoraAdapter> read_peft(const std::string& directory, const BlockLoader& model, const Compute& compute);

/// An adapter GGUF that llama.cpp applies to the model's GGUF: rows of lora_b permuted where that permutes the weight's rows.
/// Format: llama.cpp convert_lora_to_gguf.py.
Status write_adapter_gguf(const LoraAdapter& adapter, const BlockLoader& model, const std::string& path);

}  // namespace shoehorn::compress
