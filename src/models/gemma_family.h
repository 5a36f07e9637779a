// What the Gemmas have in common.
#pragma once

#include <cmath>

#include "models/keys.h"

namespace shoehorn::models {

inline void scale_gemma_embeddings(Hparams& h) { h.embedding_scale = std::sqrt(static_cast<float>(h.n_embd)); }

/// A GGUF does not say what Gemma 2 and 3 multiply scores with. Readers take the width of a head, and in the models of
/// 27 B, which they know by the number of layers, the residual stream's share of a head.
inline void scale_gemma_scores(Hparams& h, uint32_t n_layer_of_27b) {
  const uint32_t divisor =
      h.n_layer == n_layer_of_27b && h.layers[0].n_head > 0 ? h.n_embd / h.layers[0].n_head : h.head_dim;
  h.attention_scale = 1 / std::sqrt(static_cast<float>(divisor));
}

/// Fails where config.json's "query_pre_attn_scalar" is another than readers of the GGUF take.
inline Status check_gemma_scale(const Json& config, const Hparams& h) {
  SHOEHORN_TRY(const float scalar, config_float(config, "query_pre_attn_scalar", 256));
  const float taken = 1 / (h.attention_scale * h.attention_scale);
  if (std::abs(scalar - taken) <= 1e-3f * taken) return {};
  return fail(ErrorCode::kUnsupported,
              "query_pre_attn_scalar is {}; of {} layers with heads of {}, readers of a GGUF take it for {}", scalar,
              h.n_layer, h.head_dim, taken);
}

}  // namespace shoehorn::models
