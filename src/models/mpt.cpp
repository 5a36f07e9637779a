// MPT (MosaicML): LayerNorm, ALiBi instead of RoPE, an MLP without a gate, and biases where the configuration does not rule them out.
#include <cmath>

#include "models/decoder_tensors.h"
#include "models/keys.h"

namespace shoehorn::models {
namespace {

constexpr std::string_view kHfNames[] = {"MPTForCausalLM", "MptForCausalLM"};
constexpr float kMaxBias = 8;

constexpr const char* kHfQkv = "transformer.blocks.{}.attn.Wqkv.weight";
constexpr const char* kHfQkvBias = "transformer.blocks.{}.attn.Wqkv.bias";

constexpr TensorRule kTensors[] = {
    hf_named(kTokenEmbd, "transformer.wte.weight"),
    hf_named(kOutputNorm, "transformer.norm_f.weight"),
    hf_named(kOutputNormBias, "transformer.norm_f.bias"),
    hf_named(kAttnNorm, "transformer.blocks.{}.norm_1.weight"),
    hf_named(kAttnNormBias, "transformer.blocks.{}.norm_1.bias"),
    stored_as(kAttnQ, kQkv, kHfQkv),
    stored_as(kAttnK, kQkv, kHfQkv),
    stored_as(kAttnV, kQkv, kHfQkv),
    stored_as(kAttnQBias, kQkvBias, kHfQkvBias),
    stored_as(kAttnKBias, kQkvBias, kHfQkvBias),
    stored_as(kAttnVBias, kQkvBias, kHfQkvBias),
    hf_named(kAttnOutput, "transformer.blocks.{}.attn.out_proj.weight"),
    hf_named(kAttnOutputBias, "transformer.blocks.{}.attn.out_proj.bias"),
    hf_named(kFfnNorm, "transformer.blocks.{}.norm_2.weight"),
    hf_named(kFfnNormBias, "transformer.blocks.{}.norm_2.bias"),
    hf_named(kFfnUp, "transformer.blocks.{}.ffn.up_proj.weight"),
    hf_named(kFfnUpBias, "transformer.blocks.{}.ffn.up_proj.bias"),
    hf_named(kFfnDown, "transformer.blocks.{}.ffn.down_proj.weight"),
    hf_named(kFfnDownBias, "transformer.blocks.{}.ffn.down_proj.bias"),
};

void complete(Hparams& h) {
  // Nothing is rotated, however many elements a GGUF says.
  h.n_rot = h.head_dim;
  for (LayerShape& layer : h.layers) layer.attention.rotated = false;
}

Json standard(Json config) {
  const Json attention = config.value("attn_config", Json::object());
  const auto rename = [&](const Json& from, const char* own, const char* other, const Json& fallback) {
    if (config.contains(other)) return;
    const Json value = from.is_object() ? from.value(own, fallback) : fallback;
    if (!value.is_null()) config[other] = value;
  };
  rename(config, "d_model", "hidden_size", nullptr);
  rename(config, "n_layers", "num_hidden_layers", nullptr);
  rename(config, "n_heads", "num_attention_heads", nullptr);
  rename(attention, "kv_n_heads", "num_key_value_heads", nullptr);
  rename(config, "max_seq_len", "max_position_embeddings", 2048);
  rename(config, "layer_norm_epsilon", "rms_norm_eps", 1e-5);
  const Json ratio = config.value("expansion_ratio", Json(4)), width = config.value("hidden_size", Json());
  if (!config.contains("intermediate_size") && ratio.is_number() && width.is_number()) {
    const double n_ff = std::floor(ratio.get<double>() * width.get<double>());
    if (n_ff > 0 && n_ff < 1e9) config["intermediate_size"] = static_cast<uint64_t>(n_ff);
  }
  const bool biases = !json_or(config, "no_bias", true);
  config["attention_bias"] = config["mlp_bias"] = biases;
  return config;
}

void own(const Hparams& h, Json& config) {
  config["d_model"] = h.n_embd;
  config["n_layers"] = h.n_layer;
  config["n_heads"] = h.layers[0].n_head;
  config["max_seq_len"] = h.n_ctx_train;
  // Its readers cut the product off to a whole number.
  config["expansion_ratio"] = (h.layers[0].n_ff + 0.5) / h.n_embd;
  if (h.mlp_bias || h.attention_bias) config["no_bias"] = false;
  for (const char* key : {"hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size", "head_dim", "mlp_bias", "attention_bias",
                          "attention_output_bias"})
    config.erase(key);
}

Status from_config(const Json& config, Hparams& h) {
  const Json attention = config.value("attn_config", Json::object());
  for (const char* key : {"qk_ln", "prefix_lm", "attn_uses_sequence_id", "rope"}) {
    if (json_or(attention, key, false)) return fail(ErrorCode::kUnsupported, "attn_config.{} is not supported", key);
  }
  if (!json_or(attention, "alibi", false)) return fail(ErrorCode::kUnsupported, "attn_config.alibi is false: learned positions are not supported");
  SHOEHORN_TRY(h.alibi_max_bias, config_float(attention, "alibi_bias_max", kMaxBias));
  if (h.alibi_max_bias == 0) return fail(ErrorCode::kInvalid, "attn_config.alibi_bias_max is 0");
  SHOEHORN_TRY(h.clamp_qkv, config_float(attention, "clip_qkv", 0));
  SHOEHORN_TRY(h.attention_scale, config_float(attention, "softmax_scale", 0));
  if (h.attention_scale != 0) return fail(ErrorCode::kUnsupported, "attn_config.softmax_scale is {}; readers of a GGUF take 1 / sqrt(head size)", h.attention_scale);
  if (const auto norm = json_or<std::string>(config, "norm_type", "low_precision_layernorm"); !norm.ends_with("layernorm"))
    return fail(ErrorCode::kUnsupported, "norm_type \"{}\" is not supported", norm);
  if (const Json scale = config.value("logit_scale", Json()); !scale.is_null()) return fail(ErrorCode::kUnsupported, "logit_scale is {}, which is not supported", scale.dump());
  h.norm_bias = h.mlp_bias;
  return {};
}

Status from_gguf(const GgufKeys& keys, Hparams& h) {
  h.alibi_max_bias = keys.float_or("attention.max_alibi_bias", kMaxBias);
  h.clamp_qkv = keys.float_or("attention.clamp_kqv", 0);
  return {};
}

void to_gguf(const Hparams& h, SetGgufKey set) {
  set("attention.max_alibi_bias", h.alibi_max_bias);
  if (h.clamp_qkv > 0) set("attention.clamp_kqv", h.clamp_qkv);
}

constexpr OwnKeys kKeys = {from_config, from_gguf, to_gguf, standard, own};

}  // namespace

extern const Architecture mpt;
const Architecture mpt{
    .name = "mpt",
    .hf_architectures = kHfNames,
    .rope = RopeType::kNeox,
    .tensors = kTensors,
    .default_tied = true,
    .activation = Activation::kGelu,
    .norm = NormKind::kLayer,
    .whole_heads = true,
    .complete = complete,
    .own_keys = &kKeys,
};

}  // namespace shoehorn::models
