// Layers whose attention sees a window of positions, between layers that see all.
#pragma once

#include "models/keys.h"

namespace shoehorn::models {

/// config.json's window ("sliding_window") and layers ("layer_types", or else every period-th without a window).
/// Readers of a GGUF know the period and nothing else: layers in another order are refused.
Status windows_from_config(const Json& config, uint32_t default_window, uint32_t period, Hparams& hparams);

/// The GGUF key attention.sliding_window, and the layers by the period.
Status windows_from_gguf(const GgufKeys& keys, uint32_t period, Hparams& hparams);

}  // namespace shoehorn::models
