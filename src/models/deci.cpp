// DeciLM: llama whose layers differ in width. The GGUF architecture that stock llama.cpp has for jagged models.
#include "models/decoder_tensors.h"

namespace shoehorn::models {
namespace {

constexpr std::string_view kHfNames[] = {"DeciLMForCausalLM"};

}  // namespace

extern const Architecture deci;
const Architecture deci{
    .name = "deci",
    .hf_architectures = kHfNames,
    .rope = RopeType::kNorm,
    .tensors = kLlamaTensors,
    .jagged_as = "deci",
    .per_layer_keys = true,
};

}  // namespace shoehorn::models
