#include "models/hf_config.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "io/packed.h"
#include "models/keys.h"

namespace shoehorn::models {
namespace {

constexpr uint64_t kMaxConfigBytes = uint64_t{16} << 20;
constexpr uint32_t kMaxLayers = 4096;

const Json* find(const Json& j, const char* key) {
  const auto it = j.find(key);
  return it == j.end() || it->is_null() ? nullptr : &*it;
}

Expected<uint32_t> as_uint(const Json& value, const char* key) {
  if (!value.is_number_integer() || value.get<int64_t>() < 0 || value.get<int64_t>() > INT32_MAX) {
    return fail(ErrorCode::kInvalid, "{} is {}, expected a whole number", key, value.dump());
  }
  return static_cast<uint32_t>(value.get<int64_t>());
}

Expected<uint32_t> required_uint(const Json& config, const char* key) {
  const Json* value = find(config, key);
  if (value == nullptr) return fail(ErrorCode::kInvalid, "{} is missing", key);
  return as_uint(*value, key);
}

/// A number for all layers or an array with one per layer.
Expected<std::vector<uint32_t>> per_layer(const Json& config, const char* key, uint32_t n_layer) {
  const Json* value = find(config, key);
  if (value == nullptr) return fail(ErrorCode::kInvalid, "{} is missing", key);
  if (!value->is_array()) {
    SHOEHORN_TRY(const uint32_t n, as_uint(*value, key));
    return std::vector<uint32_t>(n_layer, n);
  }
  if (value->size() != n_layer) {
    return fail(ErrorCode::kInvalid, "{} has {} entries, num_hidden_layers is {}", key, value->size(), n_layer);
  }
  std::vector<uint32_t> out;
  for (const Json& entry : *value) {
    SHOEHORN_TRY(const uint32_t n, as_uint(entry, key));
    out.push_back(n);
  }
  return out;
}

/// DeciLM's block_configs. ffn_mult is rounded as its own code does: 2/3 of ffn_mult * n_embd, up to a multiple of 256.
Expected<std::vector<LayerShape>> deci_layers(const Json& blocks, uint32_t n_layer, uint32_t n_embd, uint32_t n_head) {
  if (!blocks.is_array() || blocks.size() != n_layer) {
    return fail(ErrorCode::kInvalid, "block_configs must be an array of num_hidden_layers = {} entries", n_layer);
  }
  std::vector<LayerShape> layers;
  for (size_t i = 0; i < blocks.size(); ++i) {
    const Json* attention = blocks[i].is_object() ? find(blocks[i], "attention") : nullptr;
    const Json* ffn = blocks[i].is_object() ? find(blocks[i], "ffn") : nullptr;
    if (attention == nullptr || ffn == nullptr) {
      return fail(ErrorCode::kInvalid, "block_configs[{}] lacks attention or ffn", i);
    }
    if (json_or(*attention, "replace_with_linear", false) || json_or(*ffn, "replace_with_linear", false)) {
      return fail(ErrorCode::kUnsupported, "block_configs[{}]: replace_with_linear is not supported", i);
    }
    LayerShape layer;
    if (!json_or(*attention, "no_op", false)) {
      SHOEHORN_TRY(const uint32_t group, required_uint(*attention, "n_heads_in_group"));
      if (group == 0 || n_head % group != 0) {
        return fail(ErrorCode::kInvalid, "block_configs[{}]: n_heads_in_group {} does not divide {} heads", i, group, n_head);
      }
      layer.n_head = n_head;
      layer.n_head_kv = n_head / group;
    }
    if (!json_or(*ffn, "no_op", false)) {
      const double mult = json_or(*ffn, "ffn_mult", 0.0);
      if (!(mult > 0 && mult < 1024)) return fail(ErrorCode::kInvalid, "block_configs[{}]: ffn_mult is {}", i, mult);
      const auto width = static_cast<uint32_t>(2 * mult * n_embd / 3);
      layer.n_ff = (width + 255) / 256 * 256;
    }
    layers.push_back(layer);
  }
  return layers;
}

Expected<std::vector<float>> parse_factors(const Json& scaling, const char* key) {
  const Json* list = find(scaling, key);
  if (list == nullptr || !list->is_array() || !std::all_of(list->begin(), list->end(), [](const Json& f) { return f.is_number(); }))
    return fail(ErrorCode::kInvalid, "rope_scaling has no list of numbers {}", key);
  return list->get<std::vector<float>>();
}

/// LongRoPE as transformers has it: `config` says the original context, and the magnitude follows from it where it is not said.
Status parse_longrope(const Json& config, const Json& scaling, uint32_t n_ctx_train, RopeScaling& out) {
  out.type = RopeScalingType::kLongRope;
  SHOEHORN_TRY(out.long_factors, parse_factors(scaling, "long_factor"));
  SHOEHORN_TRY(out.short_factors, parse_factors(scaling, "short_factor"));
  SHOEHORN_TRY(out.original_context, config_uint(scaling, "original_max_position_embeddings", 0));
  SHOEHORN_TRY(out.original_context, config_uint(config, "original_max_position_embeddings", out.original_context));
  SHOEHORN_TRY(out.attn_factor, config_float(scaling, "attention_factor", 0));
  if (out.attn_factor != 0 || out.original_context < 2) return {};
  const double stretched = static_cast<double>(n_ctx_train) / out.original_context;
  out.attn_factor = stretched <= 1 ? 1 : static_cast<float>(std::sqrt(1 + std::log(stretched) / std::log(out.original_context)));
  return {};
}

Expected<RopeScaling> parse_rope_scaling(const Json& config, const Json& scaling, uint32_t n_ctx_train) {
  if (!scaling.is_object()) return fail(ErrorCode::kInvalid, "rope_scaling is {}, expected an object", scaling.dump());
  RopeScaling out;
  const auto type = json_or<std::string>(scaling, "rope_type", json_or<std::string>(scaling, "type", "default"));
  if (type == "default") return out;
  if (type == "linear") {
    out.type = RopeScalingType::kLinear;
  } else if (type == "yarn") {
    out.type = RopeScalingType::kYarn;
  } else if (type == "llama3") {
    out.type = RopeScalingType::kLlama3;
  } else if (type == "longrope" || type == "su") {
    SHOEHORN_RETURN_IF_ERROR(parse_longrope(config, scaling, n_ctx_train, out));
    return out;
  } else {
    return fail(ErrorCode::kUnsupported, "rope scaling type \"{}\" is not supported (linear, yarn, llama3 and longrope are)", type);
  }
  SHOEHORN_TRY(out.factor, config_float(scaling, "factor", 1));
  SHOEHORN_TRY(out.original_context, config_uint(scaling, "original_max_position_embeddings",
                                                   out.type == RopeScalingType::kLinear ? 0 : n_ctx_train));
  SHOEHORN_TRY(out.low_freq_factor, config_float(scaling, "low_freq_factor", 1));
  SHOEHORN_TRY(out.high_freq_factor, config_float(scaling, "high_freq_factor", 4));
  SHOEHORN_TRY(out.beta_fast, config_float(scaling, "beta_fast", 32));
  SHOEHORN_TRY(out.beta_slow, config_float(scaling, "beta_slow", 1));
  if (out.type == RopeScalingType::kYarn) {
    if (find(scaling, "mscale") != nullptr || find(scaling, "mscale_all_dim") != nullptr) {
      return fail(ErrorCode::kUnsupported, "yarn with mscale is not supported");
    }
    SHOEHORN_TRY(const float magnitude, config_float(scaling, "attention_factor", 0));
    if (magnitude != 0) out.attn_factor = magnitude / (0.1f * std::log(out.factor) + 1);
  }
  return out;
}

/// Names that transformers has for it; gemma's first configurations say "gelu" where its code computed the approximation.
Expected<Activation> parse_activation(const Json& config, Activation activation) {
  static constexpr std::string_view kNames[kActivations][2] = {{"silu", "swish"}, {"gelu_pytorch_tanh", "gelu"}, {"gelu", "gelu"}, {"relu2", "relu2"}};
  const auto& known = kNames[static_cast<size_t>(activation)];
  for (const char* key : {"hidden_activation", "hidden_act"}) {
    if (find(config, key) == nullptr) continue;
    const auto name = json_or<std::string>(config, key, "");
    if (std::find(std::begin(known), std::end(known), name) != std::end(known)) return activation;
    return fail(ErrorCode::kUnsupported, "{} \"{}\" is not supported here ({} is)", key, name, known[0]);
  }
  return activation;
}

Expected<const Architecture*> find_config_architecture(const Json& config, std::string& hf_name, bool& rotated) {
  const Json* names = find(config, "architectures");
  if (names == nullptr || !names->is_array() || names->empty() || !names->front().is_string()) {
    return fail(ErrorCode::kInvalid, "\"architectures\" is missing");
  }
  hf_name = names->front().get<std::string>();
  std::string_view base = hf_name;
  rotated = base.starts_with(kRotatedPrefix);
  if (rotated) base.remove_prefix(kRotatedPrefix.size());
  const Architecture* architecture = find_hf_architecture(base);
  if (architecture == nullptr) {
    std::string known;
    for (const Architecture* a : architectures()) {
      for (const auto name : a->hf_architectures) known += (known.empty() ? "" : ", ") + std::string(name);
    }
    return fail(ErrorCode::kUnsupported, "architecture {} is not supported; the nearest by name is {} ({} are)", hf_name,
                nearest_hf_architecture(base), known);
  }
  return architecture;
}

}  // namespace

Expected<uint32_t> config_uint(const Json& config, const char* key, uint32_t fallback) {
  const Json* value = find(config, key);
  if (value == nullptr) return fallback;
  return as_uint(*value, key);
}

Expected<float> config_float(const Json& config, const char* key, float fallback) {
  const Json* value = find(config, key);
  if (value == nullptr) return fallback;
  if (!value->is_number()) return fail(ErrorCode::kInvalid, "{} is {}, expected a number", key, value->dump());
  return value->get<float>();
}

Expected<Json> read_config_json(const std::string& directory) { return read_json(directory + "/config.json", kMaxConfigBytes); }

Expected<ModelConfig> read_model_config(const std::string& directory) {
  SHOEHORN_TRY(const Json json, read_config_json(directory));
  auto config = parse_model_config(json);
  if (!config) return annotate(config.error(), directory + "/config.json");
  return config;
}

Expected<ModelConfig> parse_model_config(const Json& stated) {
  if (!stated.is_object()) return fail(ErrorCode::kInvalid, "expected a JSON object");
  if (const auto packed = io::packed_config(stated); !packed) return tl::unexpected<Error>(packed.error());
  ModelConfig out;
  Hparams& h = out.hparams;
  SHOEHORN_TRY(const Architecture* architecture, find_config_architecture(stated, out.hf_architecture, h.ffn_hadamard));
  const bool has_own_names = architecture->own_keys != nullptr && architecture->own_keys->standard != nullptr;
  const Json translated = has_own_names ? architecture->own_keys->standard(stated) : Json();
  const Json& config = has_own_names ? translated : stated;
  out.torch_dtype = json_or<std::string>(config, "torch_dtype", json_or<std::string>(config, "dtype", ""));

  SHOEHORN_TRY(h.n_vocab, required_uint(config, "vocab_size"));
  SHOEHORN_TRY(h.n_embd, required_uint(config, "hidden_size"));
  SHOEHORN_TRY(h.n_layer, required_uint(config, "num_hidden_layers"));
  if (h.n_layer == 0 || h.n_layer > kMaxLayers) {
    return fail(ErrorCode::kInvalid, "num_hidden_layers is {}, expected 1 to {}", h.n_layer, kMaxLayers);
  }
  SHOEHORN_TRY(h.n_ctx_train, config_uint(config, "max_position_embeddings", 2048));
  SHOEHORN_TRY(h.norm_eps, config_float(config, "rms_norm_eps", 1e-6f));
  SHOEHORN_TRY(h.activation, parse_activation(config, architecture->activation));

  SHOEHORN_TRY(const auto n_heads, per_layer(config, "num_attention_heads", h.n_layer));
  if (const Json* blocks = find(config, "block_configs")) {
    SHOEHORN_TRY(h.layers, deci_layers(*blocks, h.n_layer, h.n_embd, n_heads.front()));
  } else {
    const char* kv_key = find(config, "num_key_value_heads") != nullptr ? "num_key_value_heads" : "num_attention_heads";
    SHOEHORN_TRY(const auto n_heads_kv, per_layer(config, kv_key, h.n_layer));
    SHOEHORN_TRY(const auto n_ff, per_layer(config, "intermediate_size", h.n_layer));
    for (uint32_t i = 0; i < h.n_layer; ++i) h.layers.push_back({n_heads[i], n_heads[i] == 0 ? 0 : n_heads_kv[i], n_ff[i]});
  }

  SHOEHORN_TRY(h.head_dim, config_uint(config, "head_dim", 0));
  if (h.head_dim == 0) {
    // Only a model whose heads are all there lets the head size be derived.
    if (!find(config, "num_attention_heads")->is_number() || n_heads.front() == 0 || h.n_embd % n_heads.front() != 0) {
      return fail(ErrorCode::kInvalid, "head_dim is missing and cannot be derived from hidden_size and num_attention_heads");
    }
    h.head_dim = h.n_embd / n_heads.front();
  }
  SHOEHORN_TRY(const float partial, config_float(config, "partial_rotary_factor", 1));
  if (!(partial > 0 && partial <= 1)) return fail(ErrorCode::kInvalid, "partial_rotary_factor is {}", partial);
  h.n_rot = static_cast<uint32_t>(static_cast<float>(h.head_dim) * partial);

  // transformers 5 moved theta and scaling together into rope_parameters.
  const Json* parameters = find(config, "rope_parameters");
  SHOEHORN_TRY(h.rope_theta, config_float(config, "rope_theta", 10000));
  if (parameters != nullptr && parameters->is_object()) {
    SHOEHORN_TRY(h.rope_theta, config_float(*parameters, "rope_theta", h.rope_theta));
  }
  const Json* scaling = find(config, "rope_scaling");
  if (scaling == nullptr) scaling = parameters;
  if (scaling != nullptr) {
    SHOEHORN_TRY(h.rope_scaling, parse_rope_scaling(config, *scaling, h.n_ctx_train));
  }
  h.tied_embeddings = json_or(config, "tie_word_embeddings", architecture->default_tied);
  if (!h.tied_embeddings && !has_role(*architecture, Role::kOutput)) {
    return fail(ErrorCode::kUnsupported, "tie_word_embeddings is false, {} has no output matrix of its own", out.hf_architecture);
  }
  h.attention_bias = json_or(config, "attention_bias", architecture->default_attention_bias);
  // Our own key, for pruned models: an output bias although q, k and v have none.
  h.attention_output_bias = has_role(*architecture, Role::kAttnOutputBias) && json_or(config, "attention_output_bias", h.attention_bias);
  h.mlp_bias = json_or(config, "mlp_bias", false);
  const bool uses_window = json_or(config, "use_sliding_window", true);
  if (uses_window) {
    SHOEHORN_TRY(out.sliding_window, config_uint(config, "sliding_window", 0));
  }

  if (has_experts(*architecture)) {
    SHOEHORN_TRY(h.n_expert, config_uint(config, "num_local_experts", 0));
    SHOEHORN_TRY(h.n_expert, config_uint(config, "num_experts", h.n_expert));
    SHOEHORN_TRY(h.n_expert_used, config_uint(config, "num_experts_per_tok", 0));
    h.renormalize_experts = architecture->renormalize_experts;
  }
  h.norm = architecture->norm;
  if (architecture->complete != nullptr) architecture->complete(h);
  if (architecture->own_keys != nullptr) SHOEHORN_RETURN_IF_ERROR(architecture->own_keys->from_config(config, h));
  if (h.window > 0) out.sliding_window = 0;  // is computed
  SHOEHORN_RETURN_IF_ERROR(check_hparams(h));
  // What only the jagged architecture's readers take: layers of different shapes, and where it says so missing heads.
  const bool headless = architecture->whole_heads && h.layers[0].n_head * h.head_dim != h.n_embd;
  const bool jagged = !h.uniform() || headless;
  if (jagged && (architecture->jagged_as == nullptr || h.n_expert > 0)) {
    return fail(ErrorCode::kUnsupported, "{} with {} cannot be written as a GGUF that others read", out.hf_architecture,
                headless ? "heads that do not make up the width of the model" : "layers of different shapes");
  }
  if (jagged && h.layers[0].n_head == 0) {
    return fail(ErrorCode::kUnsupported, "layer 0 has no attention; a jagged GGUF needs it there");
  }
  out.architecture = jagged ? find_architecture(architecture->jagged_as) : architecture;
  if (out.architecture != architecture && h.window > 0) {
    // Its GGUF has no key for a window.
    out.sliding_window = std::exchange(h.window, 0);
    for (LayerShape& layer : h.layers) layer.attention.windowed = false;
  }
  if (out.architecture->rope != RopeType::kNorm || out.architecture == architecture) return out;
  // Stock readers size deci's q bias by n_embd.
  for (const LayerShape& layer : h.layers) {
    if (h.attention_bias && layer.n_head > 0 && layer.n_head * h.head_dim != h.n_embd) {
      return fail(ErrorCode::kUnsupported, "{} with biases and pruned heads cannot be written as a GGUF that others read",
                  out.hf_architecture);
    }
  }
  return out;
}

}  // namespace shoehorn::models
