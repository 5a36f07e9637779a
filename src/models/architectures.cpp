#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "hadamard/matrix.h"
#include "models/model.h"

namespace shoehorn::models {

#define SHOEHORN_ARCHITECTURE(name) extern const Architecture name;
#include "models/architectures.inc"
#undef SHOEHORN_ARCHITECTURE

namespace {

constexpr uint64_t kMaxExperts = 1024;

constexpr const Architecture* kArchitectures[] = {
#define SHOEHORN_ARCHITECTURE(name) &name,
#include "models/architectures.inc"
#undef SHOEHORN_ARCHITECTURE
};

uint64_t dim_size(Dim dim, const Hparams& h, const LayerShape* layer) {
  switch (dim) {
    case Dim::kNone: return 0;
    case Dim::kVocab: return h.n_vocab;
    case Dim::kEmbd: return h.n_embd;
    case Dim::kFf: return layer->n_ff;
    case Dim::kFfShared: return h.n_ff_shared;
    case Dim::kExperts: return h.n_expert;
    case Dim::kQ: return uint64_t{layer->n_head} * h.head_dim;
    case Dim::kKv: return uint64_t{layer->n_head_kv} * h.head_dim;
    case Dim::kHeadDim: return h.head_dim;
    case Dim::kHalfRot: return h.n_rot / 2;
  }
  return 0;
}

bool present(const TensorRule& rule, const Hparams& h) {
  switch (rule.presence) {
    case Presence::kAlways: return true;
    case Presence::kUntied: return !h.tied_embeddings;
    case Presence::kAttentionBias: return h.attention_bias;
    case Presence::kAttentionOutputBias: return h.attention_output_bias;
    case Presence::kMlpBias: return h.mlp_bias;
    case Presence::kDense: return h.n_expert == 0;
    case Presence::kExperts: return h.n_expert > 0;
    case Presence::kNormBias: return h.norm_bias;
    case Presence::kLlama3Rope: return h.rope_scaling.type == RopeScalingType::kLlama3;
    case Presence::kLongRope: return h.rope_scaling.type == RopeScalingType::kLongRope;
  }
  return false;
}

TensorSpec make_spec(const TensorRule& rule, const Hparams& h, int layer, int expert = -1) {
  const LayerShape* shape = layer < 0 ? nullptr : &h.layers[static_cast<size_t>(layer)];
  TensorSpec spec{&rule, layer, expert, with_layer(rule.gguf_name, layer), with_layer(rule.hf_name, layer, expert), {}};
  spec.shape.push_back(dim_size(rule.cols, h, shape));
  if (rule.rows != Dim::kNone) spec.shape.push_back(dim_size(rule.rows, h, shape));
  return spec;
}

}  // namespace

std::string with_layer(std::string_view pattern, int layer, int expert) {
  std::string name(pattern);
  for (const int number : {layer, expert}) {
    if (const size_t at = name.find("{}"); at != std::string::npos) name.replace(at, 2, std::to_string(number));
  }
  return name;
}

std::vector<WeightId> weight_ids(const TensorRule& rule, const Hparams& h) {
  if (!rule.per_expert) return {rule.role};
  std::vector<WeightId> ids;
  for (uint32_t expert = 0; expert < h.n_expert; ++expert) ids.emplace_back(rule.role, static_cast<int>(expert));
  return ids;
}

bool Hparams::uniform() const {
  return std::all_of(layers.begin(), layers.end(), [&](const LayerShape& l) {
    return l.n_head == layers[0].n_head && l.n_head_kv == layers[0].n_head_kv && l.n_ff == layers[0].n_ff;
  });
}

float Hparams::score_scale() const { return attention_scale > 0 ? attention_scale : 1 / std::sqrt(static_cast<float>(head_dim)); }

uint32_t Hparams::max_n_ff() const {
  uint32_t n = n_ff_shared;
  for (const LayerShape& layer : layers) n = std::max(n, layer.n_ff);
  return n;
}

uint32_t Hparams::max_n_head() const {
  uint32_t n = 0;
  for (const LayerShape& layer : layers) n = std::max(n, layer.n_head);
  return n;
}

std::span<const Architecture* const> architectures() { return kArchitectures; }

const Architecture* find_architecture(std::string_view name) {
  for (const Architecture* a : kArchitectures) {
    if (name == a->name) return a;
  }
  return nullptr;
}

const Architecture* find_hf_architecture(std::string_view hf_name) {
  for (const Architecture* a : kArchitectures) {
    for (const std::string_view name : a->hf_architectures) {
      if (name == hf_name) return a;
    }
  }
  return nullptr;
}

std::string gguf_name(const Architecture& architecture, const Hparams& hparams) {
  return architecture.name + std::string(hparams.ffn_hadamard ? kRotatedSuffix : "");
}

std::string architecture_names() {
  std::string names;
  for (const Architecture* a : kArchitectures) names += (names.empty() ? "" : ", ") + std::string(a->name);
  return names;
}

bool is_gain(Role role) {
  return role == Role::kAttnNorm || role == Role::kFfnNorm || role == Role::kOutputNorm || role == Role::kAttnQNorm ||
         role == Role::kAttnKNorm || role == Role::kAttnPostNorm || role == Role::kFfnPostNorm ||
         role == Role::kAttnSubNorm || role == Role::kFfnSubNorm;
}

bool is_of_norm(Role role) { return is_gain(role) || role == Role::kAttnNormBias || role == Role::kFfnNormBias || role == Role::kOutputNormBias; }

bool is_rope_divisors(Role role) { return role == Role::kRopeFreqs || role == Role::kRopeFactorsLong || role == Role::kRopeFactorsShort; }

std::vector<float> rope_divisors(const Hparams& h, Role role) {
  if (role == Role::kRopeFreqs) return llama3_rope_freqs(h);
  return role == Role::kRopeFactorsLong ? h.rope_scaling.long_factors : h.rope_scaling.short_factors;
}

bool has_role(const Architecture& architecture, Role role) {
  return std::any_of(architecture.tensors.begin(), architecture.tensors.end(), [&](const TensorRule& rule) { return rule.role == role; });
}

bool has_experts(const Architecture& architecture) {
  // Readers know no number of experts by layer.
  return !architecture.per_layer_keys && std::any_of(architecture.tensors.begin(), architecture.tensors.end(), [](const TensorRule& rule) { return rule.per_expert; });
}

bool can_rotate(const Architecture& architecture) {
  return architecture.norm == NormKind::kRms && !has_role(architecture, Role::kAttnSubNorm);
}

bool can_rotate_residual(const Architecture& architecture) {
  return can_rotate(architecture) && has_role(architecture, Role::kOutput) && !has_role(architecture, Role::kAttnPostNorm) &&
         !has_role(architecture, Role::kFfnPostNorm);
}

namespace {

/// Levenshtein 1966: characters to put in, take out or replace.
size_t changes_between(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i + 1);
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, diagonal + 1});
    }
  }
  return row.back();
}

std::string_view nearest_of(const std::vector<std::string_view>& known, std::string_view name) {
  name = name.substr(0, 256);
  return *std::min_element(known.begin(), known.end(), [&](std::string_view a, std::string_view b) {
    return changes_between(a, name) < changes_between(b, name);
  });
}

}  // namespace

std::string_view nearest_hf_architecture(std::string_view name) {
  std::vector<std::string_view> known;
  for (const Architecture* a : kArchitectures) known.insert(known.end(), a->hf_architectures.begin(), a->hf_architectures.end());
  return nearest_of(known, name);
}

std::string_view nearest_architecture(std::string_view name) {
  std::vector<std::string_view> known;
  for (const Architecture* a : kArchitectures) known.push_back(a->name);
  return nearest_of(known, name);
}

namespace {

std::vector<FileTensor> file_tensors(std::span<const TensorSpec> specs, std::string TensorSpec::*name) {
  std::vector<FileTensor> out;
  for (size_t first = 0, end = 0; first < specs.size(); first = end) {
    uint64_t n_rows = 0;
    for (end = first; end < specs.size() && specs[end].*name == specs[first].*name; ++end) n_rows += specs[end].n_rows();
    if ((specs[first].*name).empty()) continue;
    FileTensor tensor{specs[first].*name, specs[first].shape, specs.subspan(first, end - first)};
    if (specs[first].rule->per_expert && name == &TensorSpec::gguf_name) {
      tensor.shape.push_back(tensor.parts.size());
    } else {
      tensor.shape.back() = n_rows;
    }
    out.push_back(std::move(tensor));
  }
  return out;
}

/// Where each one's rows begin among those of its name.
void count_rows(std::vector<TensorSpec>& specs, uint32_t head_dim) {
  for (size_t i = 1; i < specs.size(); ++i) {
    const TensorSpec& before = specs[i - 1];
    const bool by_heads = specs[i].rule->hf_rows == HfRows::kByHeads;
    if (specs[i].gguf_name == before.gguf_name) specs[i].gguf_row = before.gguf_row + before.n_rows();
    if (specs[i].hf_name == before.hf_name) specs[i].hf_row = before.hf_row + (by_heads ? head_dim : before.n_rows());
  }
  for (const FileTensor& tensor : hf_tensors(specs)) {
    if (tensor.parts.front().rule->hf_rows != HfRows::kByHeads) continue;
    for (const TensorSpec& part : tensor.parts) {
      TensorSpec& spec = specs[static_cast<size_t>(&part - specs.data())];
      spec.hf_run = head_dim;
      spec.hf_stride = head_dim * tensor.parts.size();
    }
  }
}

}  // namespace

std::vector<FileTensor> gguf_tensors(std::span<const TensorSpec> specs) { return file_tensors(specs, &TensorSpec::gguf_name); }
std::vector<FileTensor> hf_tensors(std::span<const TensorSpec> specs) {
  std::vector<FileTensor> out = file_tensors(specs, &TensorSpec::hf_name);
  for (FileTensor& tensor : out) {
    if (tensor.parts.front().rule->hf_matrix) tensor.shape.push_back(1);
  }
  return out;
}

std::vector<TensorSpec> tensor_specs(const Architecture& architecture, const Hparams& h) {
  std::vector<TensorSpec> specs;
  for (const TensorRule& rule : architecture.tensors) {
    if (rule.part == Part::kGlobal && present(rule, h)) specs.push_back(make_spec(rule, h, -1));
  }
  for (uint32_t layer = 0; layer < h.n_layer; ++layer) {
    const LayerShape& shape = h.layers[layer];
    for (const TensorRule& rule : architecture.tensors) {
      const bool in_layer = (rule.part == Part::kAttention && shape.n_head > 0) || (rule.part == Part::kMlp && shape.n_ff > 0);
      if (!in_layer || !present(rule, h)) continue;
      for (const WeightId id : weight_ids(rule, h)) specs.push_back(make_spec(rule, h, static_cast<int>(layer), id.expert));
    }
  }
  count_rows(specs, h.head_dim);
  return specs;
}

double share_of_tokens(const TensorRule& rule, const Hparams& h) {
  return rule.per_expert ? static_cast<double>(h.n_expert_used) / h.n_expert : 1;
}

double experts_read(const Hparams& h, size_t n_tokens) {
  if (h.n_expert == 0) return 0;
  return h.n_expert * (1 - std::pow(1 - static_cast<double>(h.n_expert_used) / h.n_expert, static_cast<double>(n_tokens)));
}

uint64_t count_parameters(const Architecture& architecture, const Hparams& hparams) {
  uint64_t total = 0;
  for (const TensorSpec& spec : tensor_specs(architecture, hparams)) {
    if (is_rope_divisors(spec.rule->role)) continue;
    uint64_t n = 1;
    for (const uint64_t dim : spec.shape) n *= dim;
    total += n;
  }
  return total;
}

std::vector<float> alibi_slopes(uint32_t n_head, float max_bias) {
  // Of the largest power of two that is not more, and those between them of twice as many for the rest.
  uint32_t power = 1;
  while (power * 2 <= n_head) power *= 2;
  std::vector<float> slopes;
  for (uint32_t i = 0; i < n_head; ++i) {
    const double exponent = i < power ? (i + 1.0) / power : (2.0 * (i - power) + 1) / (2.0 * power);
    slopes.push_back(static_cast<float>(std::exp2(-static_cast<double>(max_bias) * exponent)));
  }
  return slopes;
}

Status check_hparams(const Hparams& h) {
  const auto in_range = [](const char* what, uint64_t value, uint64_t low, uint64_t high) -> Status {
    if (value < low || value > high) {
      return fail(ErrorCode::kInvalid, "{} is {}, expected {} to {}", what, value, low, high);
    }
    return {};
  };
  SHOEHORN_RETURN_IF_ERROR(in_range("n_vocab", h.n_vocab, 1, 1u << 24));
  SHOEHORN_RETURN_IF_ERROR(in_range("n_embd", h.n_embd, 1, 1u << 20));
  SHOEHORN_RETURN_IF_ERROR(in_range("n_layer", h.n_layer, 1, 4096));
  SHOEHORN_RETURN_IF_ERROR(in_range("head_dim", h.head_dim, 2, 4096));
  SHOEHORN_RETURN_IF_ERROR(in_range("n_rot", h.n_rot, 2, h.head_dim));
  SHOEHORN_RETURN_IF_ERROR(in_range("n_ctx_train", h.n_ctx_train, 1, 1u << 30));
  if (h.n_rot % 2 != 0) return fail(ErrorCode::kInvalid, "n_rot is {}, it must be even", h.n_rot);
  if (h.layers.size() != h.n_layer) {
    return fail(ErrorCode::kInvalid, "{} layers are described, n_layer is {}", h.layers.size(), h.n_layer);
  }
  if (!(h.norm_eps > 0 && h.norm_eps < 1)) return fail(ErrorCode::kInvalid, "rms_norm_eps is {}", h.norm_eps);
  if (!(h.rope_theta >= 1 && h.rope_theta < 1e12f)) return fail(ErrorCode::kInvalid, "rope_theta is {}", h.rope_theta);
  if (!(h.alibi_max_bias >= 0 && h.alibi_max_bias <= 64)) return fail(ErrorCode::kInvalid, "max_alibi_bias is {}", h.alibi_max_bias);
  if (!(h.clamp_qkv >= 0)) return fail(ErrorCode::kInvalid, "clamp_kqv is {}", h.clamp_qkv);
  SHOEHORN_RETURN_IF_ERROR(in_range("the number of experts", h.n_expert, 0, kMaxExperts));
  if (h.n_expert > 0) {
    SHOEHORN_RETURN_IF_ERROR(in_range("the number of experts a token goes to", h.n_expert_used, 1, h.n_expert));
    SHOEHORN_RETURN_IF_ERROR(in_range("experts of all layers", uint64_t{h.n_expert} * h.n_layer, 1, kMaxExperts * 64));
    SHOEHORN_RETURN_IF_ERROR(in_range("the shared expert's width", h.n_ff_shared, 0, 1u << 22));
    if (h.mlp_bias) return fail(ErrorCode::kUnsupported, "experts with biases are not supported");
  }
  const RopeScaling& scaling = h.rope_scaling;
  if (scaling.type != RopeScalingType::kNone) {
    if (!(scaling.factor >= 1e-3f && scaling.factor < 1e6f)) {
      return fail(ErrorCode::kInvalid, "rope scaling factor is {}", scaling.factor);
    }
    const bool needs_original = scaling.type != RopeScalingType::kLinear;
    if (needs_original && scaling.original_context == 0) {
      return fail(ErrorCode::kInvalid, "rope scaling needs original_max_position_embeddings");
    }
    if (scaling.type == RopeScalingType::kLongRope) {
      for (const auto* factors : {&scaling.short_factors, &scaling.long_factors}) {
        const bool usable = std::all_of(factors->begin(), factors->end(), [](float f) { return f >= 1e-3f && f < 1e6f; });
        if (factors->size() != h.n_rot / 2 || !usable)
          return fail(ErrorCode::kInvalid, "longrope has {} factors for {} pairs of elements, or some of no size", factors->size(), h.n_rot / 2);
      }
    }
  }
  for (size_t i = 0; i < h.layers.size(); ++i) {
    const LayerShape& layer = h.layers[i];
    const std::string where = fmt::format("layer {}: ", i);
    SHOEHORN_RETURN_IF_ERROR(in_range((where + "n_ff").c_str(), layer.n_ff, 0, 1u << 22));
    SHOEHORN_RETURN_IF_ERROR(in_range((where + "n_head").c_str(), layer.n_head, 0, 65536));
    SHOEHORN_RETURN_IF_ERROR(in_range((where + "n_head_kv").c_str(), layer.n_head_kv, 0, 65536));
    if (h.ffn_hadamard && layer.n_ff > 0) {
      if (const auto plan = hadamard::plan(layer.n_ff); !plan) return annotate(plan.error(), fmt::format("layer {}: n_ff", i));
    }
    if (layer.n_head == 0) continue;
    if (layer.n_head_kv == 0 || layer.n_head % layer.n_head_kv != 0) {
      return fail(ErrorCode::kInvalid, "{}n_head {} is not divisible by n_head_kv {}", where, layer.n_head, layer.n_head_kv);
    }
  }
  return {};
}

std::vector<float> llama3_rope_freqs(const Hparams& h) {
  const RopeScaling& s = h.rope_scaling;
  const double low_wavelength = s.original_context / static_cast<double>(s.low_freq_factor);
  const double high_wavelength = s.original_context / static_cast<double>(s.high_freq_factor);
  std::vector<float> factors;
  for (uint32_t i = 0; i < h.n_rot; i += 2) {
    const double wavelength = 2 * M_PI * std::pow(static_cast<double>(h.rope_theta), static_cast<double>(i) / h.n_rot);
    if (wavelength < high_wavelength) {
      factors.push_back(1);
    } else if (wavelength > low_wavelength) {
      factors.push_back(s.factor);
    } else {
      const double smooth = (s.original_context / wavelength - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor);
      factors.push_back(static_cast<float>(1 / ((1 - smooth) / s.factor + smooth)));
    }
  }
  return factors;
}

}  // namespace shoehorn::models
