// Gemma 3 (arXiv:2503.19786), the text model: Gemma 2 with norms on queries and keys in place of soft caps, and five
// layers with a window, whose rope has a frequency base of its own, before each without. As in Gemma 2, readers know
// the scale by the number of layers.
#include "models/decoder_tensors.h"
#include "models/gemma_family.h"
#include "models/windows.h"

namespace shoehorn::models {
namespace {

constexpr std::string_view kHfNames[] = {"Gemma3ForCausalLM"};
constexpr uint32_t kPeriod = 6, kDefaultWindow = 4096, kLayersOf27B = 62;
constexpr float kWindowTheta = 10000;

constexpr TensorRule kTensors[] = {
    kTokenEmbd,  kOutputNorm,   kAttnNorm,   kAttnQ,   kAttnQNorm, kAttnK,   kAttnKNorm,   kAttnV,
    kAttnOutput, kAttnPostNorm, kFfnPreNorm, kFfnGate, kFfnUp,     kFfnDown, kFfnPostNorm,
};

void complete(Hparams& h) {
  scale_gemma_embeddings(h);
  scale_gemma_scores(h, kLayersOf27B);
}

Status from_config(const Json& config, Hparams& h) {
  SHOEHORN_RETURN_IF_ERROR(check_gemma_scale(config, h));
  for (const char* key : {"attn_logit_softcapping", "final_logit_softcapping"}) {
    SHOEHORN_TRY(const float cap, config_float(config, key, 0));
    if (cap != 0) return fail(ErrorCode::kUnsupported, "{} is {}; Gemma 3 has none", key, cap);
  }
  SHOEHORN_TRY(h.window_rope_theta, config_float(config, "rope_local_base_freq", kWindowTheta));
  if (h.window_rope_theta != kWindowTheta)
    return fail(ErrorCode::kUnsupported, "rope_local_base_freq is {}; readers of a GGUF take it for {}",
                h.window_rope_theta, kWindowTheta);
  SHOEHORN_TRY(const uint32_t period, config_uint(config, "sliding_window_pattern", kPeriod));
  if (period != kPeriod)
    return fail(ErrorCode::kUnsupported, "sliding_window_pattern is {}; readers of a GGUF take it for {}", period,
                kPeriod);
  return windows_from_config(config, kDefaultWindow, kPeriod, h);
}

Status from_gguf(const GgufKeys& keys, Hparams& h) {
  h.window_rope_theta = keys.float_or("rope.freq_base_swa", kWindowTheta);
  return windows_from_gguf(keys, kPeriod, h);
}

void to_gguf(const Hparams& h, SetGgufKey set) { set("attention.sliding_window", h.window); }

constexpr OwnKeys kKeys = {from_config, from_gguf, to_gguf};

}  // namespace

extern const Architecture gemma3;
const Architecture gemma3{
    .name = "gemma3",
    .hf_architectures = kHfNames,
    .rope = RopeType::kNeox,
    .tensors = kTensors,
    .default_tied = true,
    .gain_offset = 1,
    .activation = Activation::kGeluTanh,
    .complete = complete,
    .own_keys = &kKeys,
};

}  // namespace shoehorn::models
