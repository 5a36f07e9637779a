// Qwen3-MoE: a Qwen3 whose MLP is experts.
#include "models/decoder_tensors.h"
#include "models/qwen_experts.h"

namespace shoehorn::models {
namespace {

constexpr std::string_view kHfNames[] = {"Qwen3MoeForCausalLM"};

constexpr TensorRule kTensors[] = {
    kTokenEmbd, kOutputNorm, kOutput,
    kAttnNorm, kAttnQ, kAttnQNorm, kAttnK, kAttnKNorm, kAttnV, kAttnOutput,
    kFfnNorm, kFfnRouter, kExpertsGate, kExpertsUp, kExpertsDown,
};

constexpr OwnKeys kKeys = {qwen_experts_from_config, qwen_experts_from_gguf, qwen_experts_to_gguf, nullptr, own_qwen_experts};

}  // namespace

extern const Architecture qwen3moe;
const Architecture qwen3moe{
    .name = "qwen3moe",
    .hf_architectures = kHfNames,
    .rope = RopeType::kNeox,
    .tensors = kTensors,
    .renormalize_experts = true,
    .own_keys = &kKeys,
};

}  // namespace shoehorn::models
