// SmolLM3: a llama in which every fourth layer's attention does not know positions (NoPE, arXiv:2501.18795).
#include "models/decoder_tensors.h"
#include "models/keys.h"

namespace shoehorn::models {
namespace {

constexpr std::string_view kHfNames[] = {"SmolLM3ForCausalLM"};
constexpr uint32_t kPeriod = 4;

constexpr TensorRule kTensors[] = {
    kTokenEmbd, kOutputNorm, kOutput,  kAttnNorm, kAttnQ, kAttnK,
    kAttnV,     kAttnOutput, kFfnNorm, kFfnGate,  kFfnUp, kFfnDown,
};

void complete(Hparams& h) {
  for (size_t i = 0; i < h.layers.size(); ++i) h.layers[i].attention.rotated = (i + 1) % kPeriod != 0;
}

/// "no_rope_layers" has a 1 where there is RoPE.
Status from_config(const Json& config, Hparams& h) {
  const auto layers = config.find("no_rope_layers");
  if (layers == config.end() || layers->is_null()) {
    SHOEHORN_TRY(const uint32_t period, config_uint(config, "no_rope_layer_interval", kPeriod));
    if (period != kPeriod)
      return fail(ErrorCode::kUnsupported, "no_rope_layer_interval is {}; readers of a GGUF take it for {}", period,
                  kPeriod);
    return {};
  }
  if (!layers->is_array() || layers->size() != h.n_layer)
    return fail(ErrorCode::kInvalid, "no_rope_layers is no list of num_hidden_layers = {} entries", h.n_layer);
  for (size_t i = 0; i < h.layers.size(); ++i) {
    if ((*layers)[i] != (h.layers[i].attention.rotated ? 1 : 0)) {
      return fail(ErrorCode::kUnsupported,
                  "no_rope_layers[{}] is {}; readers of a GGUF take every {}th layer for one without RoPE", i,
                  (*layers)[i].dump(), kPeriod);
    }
  }
  return {};
}

Status from_gguf(const GgufKeys&, Hparams&) { return {}; }
void to_gguf(const Hparams&, SetGgufKey) {}

constexpr OwnKeys kKeys = {from_config, from_gguf, to_gguf};

}  // namespace

extern const Architecture smollm3;
const Architecture smollm3{
    .name = "smollm3",
    .hf_architectures = kHfNames,
    .rope = RopeType::kNorm,
    .tensors = kTensors,
    .default_tied = true,
    .complete = complete,
    .own_keys = &kKeys,
};

}  // namespace shoehorn::models
