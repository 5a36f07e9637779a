// Llama 1-3.x, Mistral and Mixtral, which GGUF has as a llama with experts. Llama 3.1 and later bring rope_freqs.
#include "models/decoder_tensors.h"

namespace shoehorn::models {
namespace {

constexpr std::string_view kHfNames[] = {"LlamaForCausalLM", "MistralForCausalLM", "MixtralForCausalLM"};

}  // namespace

extern const Architecture llama;
const Architecture llama{
    .name = "llama",
    .hf_architectures = kHfNames,
    .rope = RopeType::kNorm,
    .tensors = kLlamaTensors,
    .jagged_as = "deci",
    .renormalize_experts = true,
};

}  // namespace shoehorn::models
