// Qwen3 (dense): NEOX rope, RMS norms on each q and k head before rope, no biases, head_dim independent of n_embd.
#include "models/decoder_tensors.h"

namespace shoehorn::models {
namespace {

constexpr std::string_view kHfNames[] = {"Qwen3ForCausalLM"};

constexpr TensorRule kTensors[] = {
    kTokenEmbd, kOutputNorm, kOutput,
    kAttnNorm, kAttnQ, kAttnQNorm, kAttnK, kAttnKNorm, kAttnV, kAttnOutput,
    kFfnNorm, kFfnGate, kFfnUp, kFfnDown,
};

}  // namespace

extern const Architecture qwen3;
const Architecture qwen3{
    .name = "qwen3",
    .hf_architectures = kHfNames,
    .rope = RopeType::kNeox,
    .tensors = kTensors,
};

}  // namespace shoehorn::models
