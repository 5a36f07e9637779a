// OLMo 2 (arXiv:2501.00656): norms behind attention and MLP, none before them, and norms over all queries and all keys
// together.
#include "models/decoder_tensors.h"

namespace shoehorn::models {
namespace {

constexpr std::string_view kHfNames[] = {"Olmo2ForCausalLM"};

constexpr TensorRule with_width(TensorRule rule, Dim cols) {
  rule.cols = cols;
  return rule;
}

constexpr TensorRule kTensors[] = {
    kTokenEmbd,
    kOutputNorm,
    kOutput,
    kAttnQ,
    with_width(kAttnQNorm, Dim::kQ),
    kAttnK,
    with_width(kAttnKNorm, Dim::kKv),
    kAttnV,
    kAttnOutput,
    kAttnPostNorm,
    kFfnGate,
    kFfnUp,
    kFfnDown,
    kFfnPostNorm,
};

}  // namespace

extern const Architecture olmo2;
const Architecture olmo2{
    .name = "olmo2",
    .hf_architectures = kHfNames,
    .rope = RopeType::kNeox,
    .tensors = kTensors,
};

}  // namespace shoehorn::models
