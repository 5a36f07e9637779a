// GPT-NeoX (arXiv:2204.06745) and Pythia: LayerNorm and biases everywhere, attention and MLP side by side, an MLP without a gate, RoPE
// over a quarter of each head. A checkpoint has q, k and v as one matrix, head by head.
#include "models/decoder_tensors.h"
#include "models/keys.h"

namespace shoehorn::models {
namespace {

constexpr std::string_view kHfNames[] = {"GPTNeoXForCausalLM"};

constexpr const char* kHfQkv = "gpt_neox.layers.{}.attention.query_key_value.weight";
constexpr const char* kHfQkvBias = "gpt_neox.layers.{}.attention.query_key_value.bias";

constexpr TensorRule kTensors[] = {
    hf_named(kTokenEmbd, "gpt_neox.embed_in.weight"),
    hf_named(kOutputNorm, "gpt_neox.final_layer_norm.weight"),
    hf_named(kOutputNormBias, "gpt_neox.final_layer_norm.bias"),
    hf_named(kOutput, "embed_out.weight"),
    hf_named(kAttnNorm, "gpt_neox.layers.{}.input_layernorm.weight"),
    hf_named(kAttnNormBias, "gpt_neox.layers.{}.input_layernorm.bias"),
    stored_as(kAttnQ, kQkv, kHfQkv, HfRows::kByHeads),
    stored_as(kAttnK, kQkv, kHfQkv, HfRows::kByHeads),
    stored_as(kAttnV, kQkv, kHfQkv, HfRows::kByHeads),
    stored_as(kAttnQBias, kQkvBias, kHfQkvBias, HfRows::kByHeads),
    stored_as(kAttnKBias, kQkvBias, kHfQkvBias, HfRows::kByHeads),
    stored_as(kAttnVBias, kQkvBias, kHfQkvBias, HfRows::kByHeads),
    hf_named(kAttnOutput, "gpt_neox.layers.{}.attention.dense.weight"),
    hf_named(kAttnOutputBias, "gpt_neox.layers.{}.attention.dense.bias"),
    hf_named(kFfnNorm, "gpt_neox.layers.{}.post_attention_layernorm.weight"),
    hf_named(kFfnNormBias, "gpt_neox.layers.{}.post_attention_layernorm.bias"),
    hf_named(kFfnUp, "gpt_neox.layers.{}.mlp.dense_h_to_4h.weight"),
    hf_named(kFfnUpBias, "gpt_neox.layers.{}.mlp.dense_h_to_4h.bias"),
    hf_named(kFfnDown, "gpt_neox.layers.{}.mlp.dense_4h_to_h.weight"),
    hf_named(kFfnDownBias, "gpt_neox.layers.{}.mlp.dense_4h_to_h.bias"),
};

void complete(Hparams& h) { h.norm_bias = h.mlp_bias = true; }

Json standard(Json config) {
  const auto rename = [&](const char* own, const char* other, Json fallback) {
    if (!config.contains(other)) config[other] = config.value(own, std::move(fallback));
  };
  rename("layer_norm_eps", "rms_norm_eps", 1e-5);
  rename("rotary_pct", "partial_rotary_factor", 0.25);
  rename("rotary_emb_base", "rope_theta", 10000);
  return config;
}

/// The dimensions that may change have the usual names.
void own(const Hparams&, Json& config) {
  for (const char* key : {"rms_norm_eps", "partial_rotary_factor", "rope_theta", "num_key_value_heads", "attention_output_bias", "mlp_bias"}) config.erase(key);
}

Status from_config(const Json& config, Hparams& h) {
  h.parallel_residual = json_or(config, "use_parallel_residual", true);
  return {};
}

Status from_gguf(const GgufKeys& keys, Hparams& h) {
  h.parallel_residual = keys.bool_or("use_parallel_residual", true);
  return {};
}

void to_gguf(const Hparams& h, SetGgufKey set) { set("use_parallel_residual", h.parallel_residual); }

constexpr OwnKeys kKeys = {from_config, from_gguf, to_gguf, standard, own};

}  // namespace

extern const Architecture gptneox;
const Architecture gptneox{
    .name = "gptneox",
    .hf_architectures = kHfNames,
    .rope = RopeType::kNeox,
    .tensors = kTensors,
    .default_attention_bias = true,
    .activation = Activation::kGelu,
    .norm = NormKind::kLayer,
    .whole_heads = true,
    .complete = complete,
    .own_keys = &kKeys,
};

}  // namespace shoehorn::models
