// Llama 1-3.x and Mistral. Llama 3.1 and later bring rope_freqs.
#include "models/decoder_tensors.h"

namespace shoehorn::models {
namespace {

constexpr std::string_view kHfNames[] = {"LlamaForCausalLM", "MistralForCausalLM"};

constexpr TensorRule kTensors[] = {
    kRopeFreqs, kTokenEmbd, kOutputNorm, kOutput,
    kAttnNorm, kAttnQ, kAttnQBias, kAttnK, kAttnKBias, kAttnV, kAttnVBias, kAttnOutput, kAttnOutputBias,
    kFfnNorm, kFfnGate, kFfnGateBias, kFfnUp, kFfnUpBias, kFfnDown, kFfnDownBias,
};

}  // namespace

extern const Architecture llama;
const Architecture llama{
    .name = "llama",
    .hf_architectures = kHfNames,
    .rope = RopeType::kNorm,
    .tensors = kTensors,
    .jagged_as = "deci",
    .default_attention_bias = false,
    .per_layer_keys = false,
};

}  // namespace shoehorn::models
