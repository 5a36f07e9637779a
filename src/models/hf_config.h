// config.json -> architecture and dimensions.
#pragma once

#include <string>

#include "base/json.h"
#include "models/model.h"

namespace shoehorn::models {

/// Before the name of a model class: Hparams::ffn_hadamard. Hugging Face's programs have no such class and refuse it.
inline constexpr std::string_view kRotatedPrefix = "Rotated";

struct ModelConfig {
  const Architecture* architecture = nullptr;   ///< what it is written as: jagged checkpoints get the jagged architecture
  std::string hf_architecture;
  std::string torch_dtype;                      ///< as stated in the file, may be empty
  uint32_t sliding_window = 0;                  ///< tokens; 0 when the model attends to everything
  Hparams hparams;
};

/// DIR/config.json as it is.
Expected<Json> read_config_json(const std::string& directory);

/// Reads DIR/config.json. Jagged models say so by arrays in intermediate_size, num_attention_heads and num_key_value_heads, or
/// by DeciLM's block_configs. Fails naming the key and its value when something is missing, contradictory or not supported.
Expected<ModelConfig> read_model_config(const std::string& directory);

/// The same from parsed JSON.
Expected<ModelConfig> parse_model_config(const Json& config);

}  // namespace shoehorn::models
