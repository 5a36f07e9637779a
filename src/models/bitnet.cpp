// BitNet b1.58 (arXiv:2402.17764) as 1bitLLM published it: a llama with a norm before the output matrices of attention and MLP, too, and
// the embedding as output matrix. Its weights are to be ternary (io/packed/bitnet.cpp).
#include "models/decoder_tensors.h"

namespace shoehorn::models {
namespace {

constexpr std::string_view kHfNames[] = {"BitnetForCausalLM"};

constexpr TensorRule kTensors[] = {
    kTokenEmbd, kOutputNorm, kAttnNorm, kAttnQ, kAttnK, kAttnV, hf_named(kAttnSubNorm, "model.layers.{}.self_attn.inner_attn_ln.weight"),
    kAttnOutput, kFfnNorm, kFfnGate, kFfnUp, hf_named(kFfnSubNorm, "model.layers.{}.mlp.ffn_layernorm.weight"), kFfnDown,
};

}  // namespace

extern const Architecture bitnet;
const Architecture bitnet{
    .name = "bitnet",
    .hf_architectures = kHfNames,
    .rope = RopeType::kNeox,
    .tensors = kTensors,
    .default_tied = true,
};

}  // namespace shoehorn::models
