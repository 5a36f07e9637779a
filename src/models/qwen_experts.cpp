#include "models/qwen_experts.h"

namespace shoehorn::models {
namespace {

void set_width(uint32_t n_ff, Hparams& h) {
  for (LayerShape& layer : h.layers) layer.n_ff = n_ff;
}

}  // namespace

Status qwen_experts_from_config(const Json& config, Hparams& h) {
  if (h.n_expert == 0) return fail(ErrorCode::kInvalid, "num_experts is missing");
  const Json dense = config.value("mlp_only_layers", Json());
  SHOEHORN_TRY(const uint32_t step, config_uint(config, "decoder_sparse_step", 1));
  if (step != 1 || (dense.is_array() && !dense.empty()))
    return fail(ErrorCode::kUnsupported, "decoder_sparse_step is {}, mlp_only_layers {}: layers without experts are not supported", step, dense.dump());
  if (config.contains("norm_topk_prob") && json_or(config, "norm_topk_prob", false) != h.renormalize_experts) {
    return fail(ErrorCode::kUnsupported, "norm_topk_prob is {}; readers of a GGUF take it for {}", !h.renormalize_experts, h.renormalize_experts);
  }
  SHOEHORN_TRY(const uint32_t n_ff, config_uint(config, "moe_intermediate_size", 0));
  if (n_ff == 0) return fail(ErrorCode::kInvalid, "moe_intermediate_size is missing");
  set_width(n_ff, h);
  return {};
}

Status qwen_experts_from_gguf(const GgufKeys& keys, Hparams& h) {
  if (h.n_expert == 0) return fail(ErrorCode::kInvalid, "key {} is missing", keys.name("expert_count"));
  SHOEHORN_TRY(const uint32_t n_ff, keys.uint("expert_feed_forward_length"));
  set_width(n_ff, h);
  return {};
}

void qwen_experts_to_gguf(const Hparams& h, SetGgufKey set) { set("expert_feed_forward_length", h.layers[0].n_ff); }

void own_qwen_experts(const Hparams& h, Json& config) { config["moe_intermediate_size"] = h.layers[0].n_ff; }

}  // namespace shoehorn::models
