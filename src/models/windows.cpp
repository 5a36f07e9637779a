#include "models/windows.h"

namespace shoehorn::models {
namespace {

/// Every period-th layer sees all positions, the others hparams.window.
void mark_windows(Hparams& h, uint32_t period) {
  for (size_t i = 0; i < h.layers.size(); ++i) h.layers[i].attention.windowed = (i + 1) % period != 0;
}

}  // namespace

Status windows_from_config(const Json& config, uint32_t default_window, uint32_t period, Hparams& h) {
  SHOEHORN_TRY(h.window, config_uint(config, "sliding_window", default_window));
  if (h.window == 0) return fail(ErrorCode::kInvalid, "sliding_window is 0");
  mark_windows(h, period);
  const auto types = config.find("layer_types");
  if (types == config.end() || types->is_null()) return {};
  if (!types->is_array() || types->size() != h.n_layer)
    return fail(ErrorCode::kInvalid, "layer_types is no list of num_hidden_layers = {} entries", h.n_layer);
  for (size_t i = 0; i < h.layers.size(); ++i) {
    const Json expected = h.layers[i].attention.windowed ? "sliding_attention" : "full_attention";
    if ((*types)[i] != expected) {
      return fail(ErrorCode::kUnsupported, "layer_types[{}] is {}; readers of a GGUF take layer {} for {}", i,
                  (*types)[i].dump(), i, expected.dump());
    }
  }
  return {};
}

Status windows_from_gguf(const GgufKeys& keys, uint32_t period, Hparams& h) {
  SHOEHORN_TRY(h.window, keys.uint("attention.sliding_window"));
  if (h.window == 0) return fail(ErrorCode::kInvalid, "key {} is 0", keys.name("attention.sliding_window"));
  mark_windows(h, period);
  return {};
}

}  // namespace shoehorn::models
