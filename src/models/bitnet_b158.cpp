// BitNet b1.58 2B4T (arXiv:2504.12285): as bitnet, with the square of ReLU in the MLP. The name of its GGUF is that of bitnet.cpp.
#include "models/decoder_tensors.h"

namespace shoehorn::models {
namespace {

constexpr std::string_view kHfNames[] = {"BitNetForCausalLM"};

constexpr TensorRule kTensors[] = {
    kTokenEmbd,  kOutputNorm, kAttnNorm, kAttnQ, kAttnK,      kAttnV,   kAttnSubNorm,
    kAttnOutput, kFfnNorm,    kFfnGate,  kFfnUp, kFfnSubNorm, kFfnDown,
};

}  // namespace

extern const Architecture bitnet_b158;
const Architecture bitnet_b158{
    .name = "bitnet-b1.58",
    .hf_architectures = kHfNames,
    .rope = RopeType::kNeox,
    .tensors = kTensors,
    .default_tied = true,
    .activation = Activation::kRelu2,
};

}  // namespace shoehorn::models
