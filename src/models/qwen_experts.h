// The keys of Qwen's models of experts.
#pragma once

#include "models/keys.h"

namespace shoehorn::models {

/// The width of experts, which is n_ff of every layer. Fails where some layers have no experts, or where the shares of those that work are
/// to be taken otherwise than readers of the GGUF take them.
Status qwen_experts_from_config(const Json& config, Hparams& hparams);
Status qwen_experts_from_gguf(const GgufKeys& keys, Hparams& hparams);
void qwen_experts_to_gguf(const Hparams& hparams, SetGgufKey set);
/// config.json's width of the experts.
void own_qwen_experts(const Hparams& hparams, Json& config);

}  // namespace shoehorn::models
