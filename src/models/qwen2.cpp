// Qwen2 and Qwen2.5: llama with NEOX rope in the file and biases on q, k and v.
#include "models/decoder_tensors.h"

namespace shoehorn::models {
namespace {

constexpr std::string_view kHfNames[] = {"Qwen2ForCausalLM"};

constexpr TensorRule kTensors[] = {
    kTokenEmbd, kOutputNorm, kOutput,
    kAttnNorm, kAttnQ, kAttnQBias, kAttnK, kAttnKBias, kAttnV, kAttnVBias, kAttnOutput,
    kFfnNorm, kFfnGate, kFfnUp, kFfnDown,
};

}  // namespace

extern const Architecture qwen2;
const Architecture qwen2{
    .name = "qwen2",
    .hf_architectures = kHfNames,
    .rope = RopeType::kNeox,
    .tensors = kTensors,
    .jagged_as = "deci",
    .default_attention_bias = true,
};

}  // namespace shoehorn::models
