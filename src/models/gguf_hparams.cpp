#include "models/gguf_hparams.h"

#include <set>

#include "hadamard/matrix.h"
#include "models/keys.h"

namespace shoehorn::models {
namespace {

const char* epsilon_key(NormKind norm) {
  return norm == NormKind::kLayer ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon";
}

constexpr const char* kTransformKey = "feed_forward_hadamard";

Status read_rope_scaling(const GgufKeys& keys, RopeScaling& scaling) {
  const std::string type = keys.string_or("rope.scaling.type", "none");
  if (type == "linear") {
    scaling.type = RopeScalingType::kLinear;
  } else if (type == "yarn") {
    scaling.type = RopeScalingType::kYarn;
  } else if (type != "none" && type != "longrope") {  // which is known by its tensors
    return fail(ErrorCode::kUnsupported, "rope scaling type \"{}\" is not supported (none, linear, yarn and longrope are)", type);
  }
  scaling.factor = keys.float_or("rope.scaling.factor", 1);
  if (scaling.type == RopeScalingType::kNone) {
    // Old files state a linear factor without a type.
    const float linear = keys.float_or("rope.scale_linear", scaling.factor);
    if (linear != 1 && linear != 0) {
      scaling.type = RopeScalingType::kLinear;
      scaling.factor = linear;
    }
  }
  if (scaling.factor == 0) scaling.factor = 1;
  scaling.attn_factor = keys.float_or("rope.scaling.attn_factor", 1);
  scaling.beta_fast = keys.float_or("rope.scaling.yarn_beta_fast", 32);
  scaling.beta_slow = keys.float_or("rope.scaling.yarn_beta_slow", 1);
  SHOEHORN_TRY(scaling.original_context, keys.uint_or("rope.scaling.original_context_length", 0));
  return {};
}

Status check_tensors(const io::GgufFile& file, const GgufModel& model) {
  std::set<std::string_view> wanted;
  const auto specs = tensor_specs(*model.architecture, model.hparams);
  const auto tensors = gguf_tensors(specs);
  for (const FileTensor& expected : tensors) {
    const io::GgufTensor* tensor = file.find(expected.name);
    if (tensor == nullptr) return fail(ErrorCode::kInvalid, "tensor {} is missing", expected.name);
    if (tensor->shape != expected.shape) {
      return fail(ErrorCode::kInvalid, "tensor {} has shape [{}], expected [{}]", expected.name,
                  fmt::join(tensor->shape, ", "), fmt::join(expected.shape, ", "));
    }
    if (expected.shape.size() == 1 && quant::format(tensor->type).quantized) {
      return fail(ErrorCode::kUnsupported, "tensor {}: vectors of type {} are not supported", expected.name,
                  quant::format(tensor->type).name);
    }
    wanted.insert(expected.name);
  }
  for (const io::GgufTensor& tensor : file.tensors()) {
    // Files by others may repeat the frequencies in each block.
    const bool known = wanted.contains(tensor.name) || tensor.name.ends_with("rope_freqs.weight") ||
                       tensor.name.ends_with("attn_rot_embd") || tensor.name.ends_with("rotary_emb.inv_freq");
    if (!known) {
      return fail(ErrorCode::kUnsupported, "tensor {} has no place in architecture {}", tensor.name, model.architecture->name);
    }
  }
  return {};
}

/// How each layer's transform is made, as it says itself; "" where there is no MLP.
std::vector<std::string> describe_transforms(const Hparams& h) {
  std::vector<std::string> out;
  for (const LayerShape& layer : h.layers) {
    const auto plan = layer.n_ff > 0 ? hadamard::plan(layer.n_ff) : hadamard::plan(0);
    out.push_back(plan ? plan->describe() : "");
  }
  return out;
}

/// The weights have a certain transform in them: a file that was made for another one would give garbage.
Status check_transforms(const io::GgufMetadata& metadata, const std::string& key, const Hparams& h) {
  const std::vector<std::string>* names = metadata.get_strings(key);
  if (names == nullptr || names->size() != h.n_layer)
    return fail(ErrorCode::kInvalid, "key {} is missing or not {} strings", key, h.n_layer);
  const auto expected = describe_transforms(h);
  for (size_t i = 0; i < expected.size(); ++i) {
    if ((*names)[i] != expected[i])
      return fail(ErrorCode::kUnsupported, "key {}: layer {} has \"{}\", this program's transform is \"{}\"", key, i, (*names)[i],
                  expected[i]);
  }
  return {};
}

Expected<std::vector<float>> read_divisors(const io::GgufFile& file, const char* name, const Hparams& h) {
  const io::GgufTensor* tensor = file.find(name);
  if (tensor == nullptr) return fail(ErrorCode::kInvalid, "tensor {} is missing", name);
  const quant::Format& format = quant::format(tensor->type);
  if (tensor->n_elements() != h.n_rot / 2 || format.quantized)
    return fail(ErrorCode::kInvalid, "tensor {} has {} elements of type {}, expected {} of no blocks", name, tensor->n_elements(), format.name, h.n_rot / 2);
  std::vector<float> out(tensor->n_elements());
  format.decode(tensor->data.data(), out.data(), out.size());
  return out;
}

Expected<GgufModel> read_model(const io::GgufFile& file) {
  const io::GgufMetadata& metadata = file.metadata();
  const std::string* name = metadata.get_string("general.architecture");
  if (name == nullptr) return fail(ErrorCode::kInvalid, "key general.architecture is missing");
  GgufModel model;
  std::string_view base = *name;
  if (base.ends_with(kRotatedSuffix)) {
    base.remove_suffix(kRotatedSuffix.size());
    model.hparams.ffn_hadamard = true;
  }
  model.architecture = find_architecture(base);
  if (model.architecture == nullptr) {
    return fail(ErrorCode::kUnsupported, "architecture {} is not supported; the nearest by name is {} ({} are)", *name,
                nearest_architecture(base), architecture_names());
  }
  const GgufKeys keys(metadata, *name);
  Hparams& h = model.hparams;
  SHOEHORN_TRY(h.n_embd, keys.uint("embedding_length"));
  SHOEHORN_TRY(h.n_layer, keys.uint("block_count"));
  SHOEHORN_TRY(h.n_ctx_train, keys.uint("context_length"));
  if (h.n_layer == 0 || h.n_layer > 4096) return fail(ErrorCode::kInvalid, "block_count is {}", h.n_layer);
  SHOEHORN_TRY(h.n_expert, keys.uint_or("expert_count", 0));
  if (h.n_expert > 0) {
    if (!has_experts(*model.architecture)) return fail(ErrorCode::kUnsupported, "key {} is {}, experts of {} are not supported", keys.name("expert_count"), h.n_expert, *name);
    SHOEHORN_TRY(h.n_expert_used, keys.uint("expert_used_count"));
    h.renormalize_experts = model.architecture->renormalize_experts;
  }

  // The embedding is the authority on the vocabulary: older files have no vocab_size.
  const io::GgufTensor* embedding = file.find("token_embd.weight");
  if (embedding == nullptr) return fail(ErrorCode::kInvalid, "tensor token_embd.weight is missing");
  if (embedding->n_rows() > INT32_MAX) return fail(ErrorCode::kInvalid, "the vocabulary has {} entries", embedding->n_rows());
  h.n_vocab = static_cast<uint32_t>(embedding->n_rows());

  SHOEHORN_TRY(const auto n_heads, keys.per_layer("attention.head_count", h.n_layer));
  std::vector<uint32_t> n_heads_kv = n_heads;
  if (keys.has("attention.head_count_kv")) {
    SHOEHORN_TRY(n_heads_kv, keys.per_layer("attention.head_count_kv", h.n_layer));
  }
  SHOEHORN_TRY(const auto n_ff, keys.per_layer("feed_forward_length", h.n_layer));
  for (uint32_t i = 0; i < h.n_layer; ++i) {
    if (n_heads[i] > 0 && n_heads_kv[i] == 0) {
      return fail(ErrorCode::kUnsupported, "layer {} replaces attention by a linear map, which is not supported", i);
    }
    h.layers.push_back({n_heads[i], n_heads[i] == 0 ? 0 : n_heads_kv[i], n_ff[i]});
  }

  uint32_t default_head_dim = 0;
  if (n_heads[0] > 0) default_head_dim = h.n_embd / n_heads[0];
  SHOEHORN_TRY(h.head_dim, keys.uint_or("attention.key_length", default_head_dim));
  SHOEHORN_TRY(const uint32_t value_length, keys.uint_or("attention.value_length", h.head_dim));
  if (value_length != h.head_dim) {
    return fail(ErrorCode::kUnsupported, "value heads of {} beside key heads of {} are not supported", value_length, h.head_dim);
  }
  SHOEHORN_TRY(h.n_rot, keys.uint_or("rope.dimension_count", h.head_dim));
  h.norm = model.architecture->norm;
  h.norm_eps = keys.float_or(epsilon_key(h.norm), 0);
  h.rope_theta = keys.float_or("rope.freq_base", 10000);
  SHOEHORN_RETURN_IF_ERROR(read_rope_scaling(keys, h.rope_scaling));
  if (h.rope_scaling.type == RopeScalingType::kYarn && h.rope_scaling.original_context == 0) {
    h.rope_scaling.original_context = h.n_ctx_train;
  }

  h.tied_embeddings = file.find("output.weight") == nullptr;
  for (const io::GgufTensor& tensor : file.tensors()) {
    if (tensor.name.ends_with(".attn_q.bias") || tensor.name.ends_with(".attn_qkv.bias")) h.attention_bias = true;
    if (tensor.name.ends_with(".attn_output.bias")) h.attention_output_bias = true;
    if (tensor.name.ends_with(".ffn_up.bias")) h.mlp_bias = true;
    if (tensor.name == "output_norm.bias") h.norm_bias = true;
  }
  if (file.find("rope_freqs.weight") != nullptr) {
    // The divisors themselves are in the tensor; what they were made from is not in the file and not needed.
    if (h.rope_scaling.type == RopeScalingType::kNone) h.rope_scaling.type = RopeScalingType::kLlama3;
    if (h.rope_scaling.original_context == 0) h.rope_scaling.original_context = h.n_ctx_train;
  }
  if (file.find("rope_factors_short.weight") != nullptr) {
    h.rope_scaling.type = RopeScalingType::kLongRope;
    SHOEHORN_TRY(h.rope_scaling.short_factors, read_divisors(file, "rope_factors_short.weight", h));
    SHOEHORN_TRY(h.rope_scaling.long_factors, read_divisors(file, "rope_factors_long.weight", h));
    if (h.rope_scaling.original_context == 0) h.rope_scaling.original_context = h.n_ctx_train;
  }
  h.activation = model.architecture->activation;
  if (model.architecture->own_keys != nullptr) SHOEHORN_RETURN_IF_ERROR(model.architecture->own_keys->from_gguf(keys, h));
  if (model.architecture->complete != nullptr) model.architecture->complete(h);
  SHOEHORN_RETURN_IF_ERROR(check_hparams(h));
  if (h.ffn_hadamard) SHOEHORN_RETURN_IF_ERROR(check_transforms(metadata, keys.name(kTransformKey), h));
  SHOEHORN_RETURN_IF_ERROR(check_tensors(file, model));
  return model;
}

}  // namespace

Expected<GgufModel> read_gguf_model(const io::GgufFile& file) {
  auto model = read_model(file);
  if (!model) return annotate(model.error(), file.path());
  return model;
}

void write_gguf_hparams(const Architecture& architecture, const Hparams& h, io::GgufMetadata& metadata) {
  const std::string name = gguf_name(architecture, h), prefix = name + ".";
  const auto set = [&](const char* key, io::GgufValue value) { metadata.set(prefix + key, std::move(value)); };
  const auto set_per_layer = [&](const char* key, uint32_t LayerShape::*field) {
    if (!architecture.per_layer_keys) {
      set(key, h.layers.front().*field);
      return;
    }
    std::vector<int32_t> values;
    for (const LayerShape& layer : h.layers) values.push_back(static_cast<int32_t>(layer.*field));
    set(key, io::GgufArray(std::move(values)));
  };
  metadata.set("general.architecture", name);
  set("block_count", h.n_layer);
  set("context_length", h.n_ctx_train);
  set("embedding_length", h.n_embd);
  set_per_layer("feed_forward_length", &LayerShape::n_ff);
  set_per_layer("attention.head_count", &LayerShape::n_head);
  set_per_layer("attention.head_count_kv", &LayerShape::n_head_kv);
  if (h.n_expert > 0) {
    set("expert_count", h.n_expert);
    set("expert_used_count", h.n_expert_used);
  }
  set("rope.freq_base", h.rope_theta);
  set(epsilon_key(h.norm), h.norm_eps);
  set("attention.key_length", h.head_dim);
  set("attention.value_length", h.head_dim);
  set("vocab_size", h.n_vocab);
  set("rope.dimension_count", h.n_rot);
  if (architecture.own_keys != nullptr) architecture.own_keys->to_gguf(h, set);
  if (h.ffn_hadamard) set(kTransformKey, io::GgufArray(describe_transforms(h)));
  const RopeScaling& scaling = h.rope_scaling;
  if (scaling.type == RopeScalingType::kLinear || scaling.type == RopeScalingType::kYarn) {
    set("rope.scaling.type", std::string(scaling.type == RopeScalingType::kLinear ? "linear" : "yarn"));
    set("rope.scaling.factor", scaling.factor);
  }
  if (scaling.type == RopeScalingType::kLongRope) set("rope.scaling.type", std::string("longrope"));
  if (scaling.type == RopeScalingType::kYarn || scaling.type == RopeScalingType::kLongRope) {
    set("rope.scaling.original_context_length", scaling.original_context);
    set("rope.scaling.attn_factor", scaling.attn_factor);
  }
  if (scaling.type == RopeScalingType::kYarn) {
    set("rope.scaling.yarn_beta_fast", scaling.beta_fast);
    set("rope.scaling.yarn_beta_slow", scaling.beta_slow);
  }
}

}  // namespace shoehorn::models
