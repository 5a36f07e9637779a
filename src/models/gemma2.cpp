// Gemma 2 (arXiv:2408.00118): Gemma with a norm behind each part too, soft caps on scores and logits, and a window in
// every other layer. Its GGUF does not say what scores are multiplied with: readers know it by the number of layers.
#include "models/decoder_tensors.h"
#include "models/gemma_family.h"
#include "models/windows.h"

namespace shoehorn::models {
namespace {

constexpr std::string_view kHfNames[] = {"Gemma2ForCausalLM"};
constexpr uint32_t kPeriod = 2, kDefaultWindow = 4096, kLayersOf27B = 46;
constexpr float kAttentionSoftcap = 50, kOutputSoftcap = 30;  // where a GGUF does not say

constexpr TensorRule kTensors[] = {
    kTokenEmbd,    kOutputNorm, kAttnNorm, kAttnQ, kAttnK,   kAttnV,       kAttnOutput,
    kAttnPostNorm, kFfnPreNorm, kFfnGate,  kFfnUp, kFfnDown, kFfnPostNorm,
};

void complete(Hparams& h) {
  scale_gemma_embeddings(h);
  scale_gemma_scores(h, kLayersOf27B);
}

Status from_config(const Json& config, Hparams& h) {
  SHOEHORN_TRY(h.attention_softcap, config_float(config, "attn_logit_softcapping", 0));
  SHOEHORN_TRY(h.output_softcap, config_float(config, "final_logit_softcapping", 0));
  SHOEHORN_RETURN_IF_ERROR(check_gemma_scale(config, h));
  return windows_from_config(config, kDefaultWindow, kPeriod, h);
}

Status from_gguf(const GgufKeys& keys, Hparams& h) {
  h.attention_softcap = keys.float_or("attn_logit_softcapping", kAttentionSoftcap);
  h.output_softcap = keys.float_or("final_logit_softcapping", kOutputSoftcap);
  return windows_from_gguf(keys, kPeriod, h);
}

void to_gguf(const Hparams& h, SetGgufKey set) {
  set("attn_logit_softcapping", h.attention_softcap);
  set("final_logit_softcapping", h.output_softcap);
  set("attention.sliding_window", h.window);
}

constexpr OwnKeys kKeys = {from_config, from_gguf, to_gguf};

}  // namespace

extern const Architecture gemma2;
const Architecture gemma2{
    .name = "gemma2",
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
