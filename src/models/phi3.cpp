// Phi-3 (arXiv:2404.14219) and Phi-4: a llama whose q, k and v are one matrix, and gate and up another; long contexts by LongRoPE
// (arXiv:2402.13753).
#include "models/decoder_tensors.h"
#include "models/keys.h"

namespace shoehorn::models {
namespace {

constexpr std::string_view kHfNames[] = {"Phi3ForCausalLM"};

constexpr const char* kHfQkv = "model.layers.{}.self_attn.qkv_proj.weight";
constexpr const char* kGateUp = "blk.{}.ffn_up.weight";
constexpr const char* kHfGateUp = "model.layers.{}.mlp.gate_up_proj.weight";

constexpr TensorRule kTensors[] = {
    kTokenEmbd,
    kOutputNorm,
    kOutput,
    kRopeFactorsLong,
    kRopeFactorsShort,
    kAttnNorm,
    stored_as(kAttnQ, kQkv, kHfQkv),
    stored_as(kAttnK, kQkv, kHfQkv),
    stored_as(kAttnV, kQkv, kHfQkv),
    kAttnOutput,
    kFfnNorm,
    stored_as(kFfnGate, kGateUp, kHfGateUp),
    stored_as(kFfnUp, kGateUp, kHfGateUp),
    kFfnDown,
};

/// Of Phi-3 all layers see a window, as the configuration says and transformers computes; 0 in a GGUF: all positions.
void see_windows(uint32_t window, Hparams& h) {
  h.window = window < h.n_ctx_train ? window : 0;
  for (LayerShape& layer : h.layers) layer.attention.windowed = h.window > 0;
}

Status from_config(const Json& config, Hparams& h) {
  SHOEHORN_TRY(const uint32_t window, config_uint(config, "sliding_window", 0));
  see_windows(window, h);
  return {};
}

Status from_gguf(const GgufKeys& keys, Hparams& h) {
  SHOEHORN_TRY(const uint32_t window, keys.uint_or("attention.sliding_window", 0));
  see_windows(window, h);
  return {};
}

void to_gguf(const Hparams& h, SetGgufKey set) { set("attention.sliding_window", h.window); }

constexpr OwnKeys kKeys = {from_config, from_gguf, to_gguf};

}  // namespace

extern const Architecture phi3;
const Architecture phi3{
    .name = "phi3",
    .hf_architectures = kHfNames,
    .rope = RopeType::kNeox,
    .tensors = kTensors,
    .jagged_as = "deci",
    .whole_heads = true,
    .own_keys = &kKeys,
};

}  // namespace shoehorn::models
