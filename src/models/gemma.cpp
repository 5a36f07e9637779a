// Gemma: a llama whose MLP is gated by GELU, whose embeddings are scaled, and whose checkpoints store gains less 1.
// Heads may be wider together than the residual stream. The output matrix is always the embedding.
#include "models/decoder_tensors.h"
#include "models/gemma_family.h"

namespace shoehorn::models {
namespace {

constexpr std::string_view kHfNames[] = {"GemmaForCausalLM"};

constexpr TensorRule kTensors[] = {
    kTokenEmbd, kOutputNorm, kAttnNorm, kAttnQ, kAttnK, kAttnV, kAttnOutput, kFfnNorm, kFfnGate, kFfnUp, kFfnDown,
};

}  // namespace

extern const Architecture gemma;
const Architecture gemma{
    .name = "gemma",
    .hf_architectures = kHfNames,
    .rope = RopeType::kNeox,
    .tensors = kTensors,
    .default_tied = true,
    .gain_offset = 1,
    .activation = Activation::kGeluTanh,
    .complete = scale_gemma_embeddings,
};

}  // namespace shoehorn::models
