// DeciLM: llama whose layers differ in width. The GGUF architecture that stock llama.cpp has for jagged models.
#include "models/decoder_tensors.h"

namespace shoehorn::models {
namespace {

constexpr std::string_view kHfNames[] = {"DeciLMForCausalLM"};

constexpr TensorRule kTensors[] = {
    kRopeFreqs, kTokenEmbd, kOutputNorm, kOutput,
    kAttnNorm, kAttnQ, kAttnQBias, kAttnK, kAttnKBias, kAttnV, kAttnVBias, kAttnOutput, kAttnOutputBias,
    kFfnNorm, kFfnGate, kFfnGateBias, kFfnUp, kFfnUpBias, kFfnDown, kFfnDownBias,
};

}  // namespace

extern const Architecture deci;
const Architecture deci{
    .name = "deci",
    .hf_architectures = kHfNames,
    .rope = RopeType::kNorm,
    .tensors = kTensors,
    .jagged_as = "deci",
    .default_attention_bias = false,
    .per_layer_keys = true,
};

}  // namespace shoehorn::models
