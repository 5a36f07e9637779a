// Qwen1.5-MoE and Qwen2-MoE: a Qwen2 whose MLP is experts, with one that all tokens go through.
#include "models/decoder_tensors.h"
#include "models/qwen_experts.h"

namespace shoehorn::models {
namespace {

constexpr std::string_view kHfNames[] = {"Qwen2MoeForCausalLM"};

constexpr TensorRule kTensors[] = {
    kTokenEmbd, kOutputNorm, kOutput,
    kAttnNorm, kAttnQ, kAttnQBias, kAttnK, kAttnKBias, kAttnV, kAttnVBias, kAttnOutput,
    kFfnNorm, kFfnRouter, kExpertsGate, kExpertsUp, kExpertsDown,
    kSharedShare, kSharedGate, kSharedUp, kSharedDown,
};

Status from_config(const Json& config, Hparams& h) {
  SHOEHORN_TRY(h.n_ff_shared, config_uint(config, "shared_expert_intermediate_size", 0));
  if (h.n_ff_shared == 0) return fail(ErrorCode::kInvalid, "shared_expert_intermediate_size is missing");
  return qwen_experts_from_config(config, h);
}

Status from_gguf(const GgufKeys& keys, Hparams& h) {
  SHOEHORN_TRY(h.n_ff_shared, keys.uint("expert_shared_feed_forward_length"));
  return qwen_experts_from_gguf(keys, h);
}

void to_gguf(const Hparams& h, SetGgufKey set) {
  qwen_experts_to_gguf(h, set);
  set("expert_shared_feed_forward_length", h.n_ff_shared);
}

constexpr OwnKeys kKeys = {from_config, from_gguf, to_gguf, nullptr, own_qwen_experts};

}  // namespace

extern const Architecture qwen2moe;
const Architecture qwen2moe{
    .name = "qwen2moe",
    .hf_architectures = kHfNames,
    .rope = RopeType::kNeox,
    .tensors = kTensors,
    .default_attention_bias = true,
    .own_keys = &kKeys,
};

}  // namespace shoehorn::models
