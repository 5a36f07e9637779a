#include "quant/mix.h"

#include <algorithm>
#include <charconv>
#include <map>

namespace shoehorn::quant {
namespace {

constexpr Mix kMixes[] = {
#define SHOEHORN_MIX(name, file_type, base) {#name, file_type, Type::base},
#include "quant/mixes.inc"
};

struct Alias {
  std::string_view alias, name;
};
constexpr Alias kAliases[] = {
#define SHOEHORN_MIX_ALIAS(alias, name) {#alias, #name},
#include "quant/mixes.inc"
};

/// What a tensor does in the model, as far as rules care.
enum class Role { token_embd, output, attn_q, attn_k, attn_v, attn_qkv, attn_output, ffn_gate, ffn_up, ffn_down, other };

/// Where a tensor stands among those of its role.
struct Place {
  int64_t index;  ///< how many of its role come before it, by layer
  int64_t count;  ///< what fractions of the depth are taken of
};

/// The first and the last eighth of the layers and every third between.
bool more_bits(Place p) {
  return p.index < p.count / 8 || p.index >= 7 * p.count / 8 || (p.index - p.count / 8) % 3 == 2;
}

/// Query heads per key-value head of layer 0; 0 for a layer without attention.
uint64_t heads_per_kv_head(const MixModel& model) { return model.n_head_kv == 0 ? 0 : model.n_head / model.n_head_kv; }

namespace condition {
bool always(Place, const MixModel&) { return true; }
bool more_bits(Place p, const MixModel&) { return quant::more_bits(p); }
bool first_two(Place p, const MixModel&) { return p.index < 2; }
bool first_four(Place p, const MixModel&) { return p.index < 4; }
bool first_eighth(Place p, const MixModel&) { return p.index < p.count / 8; }
bool first_sixteenth(Place p, const MixModel&) { return p.index < p.count / 16; }
bool between_the_eighths(Place p, const MixModel&) { return p.index >= p.count / 8 && p.index < 7 * p.count / 8; }
bool without_imatrix(Place, const MixModel& m) { return !m.has_imatrix; }
bool first_eighth_with_imatrix(Place p, const MixModel& m) { return m.has_imatrix && p.index < p.count / 8; }
bool first_eighth_without_imatrix(Place p, const MixModel& m) { return !m.has_imatrix && p.index < p.count / 8; }
bool shared_by_four_heads(Place, const MixModel& m) { return heads_per_kv_head(m) >= 4; }
}  // namespace condition

struct Rule {
  std::string_view mix;
  Role role;
  bool (*when)(Place, const MixModel&);
  Type type;
};
constexpr Rule kRules[] = {
#define SHOEHORN_MIX_RULE(mix, role, when, type) {#mix, Role::role, condition::when, Type::type},
#include "quant/mixes.inc"
};

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [&](char x, char y) { return lower(x) == lower(y); });
}

Role role_of(std::string_view name) {
  if (name == "token_embd.weight") return Role::token_embd;
  if (name == "output.weight") return Role::output;
  if (name.ends_with("attn_q.weight")) return Role::attn_q;
  if (name.ends_with("attn_k.weight")) return Role::attn_k;
  if (name.ends_with("attn_v.weight")) return Role::attn_v;
  if (name.ends_with("attn_qkv.weight")) return Role::attn_qkv;
  if (name.ends_with("attn_output.weight")) return Role::attn_output;
  if (name.find("ffn_gate") != std::string_view::npos) return Role::ffn_gate;
  if (name.find("ffn_up") != std::string_view::npos) return Role::ffn_up;
  if (name.find("ffn_down") != std::string_view::npos) return Role::ffn_down;
  return Role::other;
}

/// The N of "blk.N.", or -1.
int64_t layer_of(std::string_view name) {
  int64_t layer = -1;
  if (name.starts_with("blk.")) std::from_chars(name.data() + 4, name.data() + name.size(), layer);
  return layer;
}

/// For each tensor its index among the tensors of its role, by layer.
std::vector<int64_t> places(std::span<const MixTensor> tensors, const std::vector<Role>& roles, bool by_layer) {
  std::vector<size_t> order(tensors.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return layer_of(tensors[a].name) < layer_of(tensors[b].name); });
  std::map<Role, int64_t> seen;
  std::vector<int64_t> index(tensors.size());
  for (const size_t i : order) {
    if (!is_quantizable(tensors[i])) continue;
    const bool of_mlp = roles[i] == Role::ffn_gate || roles[i] == Role::ffn_up || roles[i] == Role::ffn_down;
    // With experts there can be more than one of a role in a layer.
    index[i] = by_layer && of_mlp ? layer_of(tensors[i].name) : seen[roles[i]]++;
  }
  return index;
}

bool divides(Type type, const MixTensor& tensor) { return tensor.shape[0] % format(type).block_size == 0; }

/// The type that takes the place of one whose blocks do not divide the rows.
Type smaller_blocks(Type type) {
  switch (type) {
    case Type::Q4_K:
      return Type::Q5_0;
    case Type::Q5_K:
      return Type::Q5_1;
    case Type::Q6_K:
      return Type::Q8_0;
    case Type::TQ1_0:
    case Type::TQ2_0:
      return Type::Q4_0;
    case Type::Q2_K:
    case Type::Q3_K:
    case Type::IQ1_S:
    case Type::IQ1_M:
    case Type::IQ2_XXS:
    case Type::IQ2_XS:
    case Type::IQ2_S:
    case Type::IQ3_XXS:
    case Type::IQ3_S:
    case Type::IQ4_XS:
      return Type::IQ4_NL;
    default:
      return Type::F16;
  }
}

/// An 80-layer model with grouped heads: its attn_v is an eighth of attn_q, so that more bits cost next to nothing.
bool is_70b(const MixModel& model) { return model.n_layer == 80 && model.n_head != model.n_head_kv; }

bool is_below_three_bits(Type type) {
  return type == Type::IQ1_S || type == Type::IQ1_M || type == Type::IQ2_XXS || type == Type::IQ2_XS || type == Type::IQ2_S;
}

Type wanted_type(const Mix& mix, const MixModel& model, const MixTensor& tensor, Role role, Place place) {
  if (role == Role::token_embd && model.tied_embeddings) role = Role::output;
  Type type = mix.base;
  if (role == Role::output) {
    if (type == Type::Q8_0 || !divides(type, tensor)) return Type::Q8_0;
    type = Type::Q6_K;
  }
  for (const Rule& rule : kRules) {
    if (rule.mix == mix.name && rule.role == role && rule.when(place, model)) {
      type = rule.type;
      break;
    }
  }
  // What attention takes is next to nothing beside eight experts.
  const bool smallest = is_below_three_bits(mix.base);
  if (model.n_expert == 8 && (role == Role::attn_k || role == Role::attn_v)) type = smallest ? Type::Q4_K : Type::Q8_0;
  constexpr std::string_view kWithBetterOutput[] = {"Q2_K", "Q3_K_S", "Q3_K_M", "Q4_K_S", "Q4_K_M", "IQ3_XXS", "IQ3_XS", "IQ3_S", "IQ3_M", "IQ4_NL", "IQ4_XS"};
  const bool better_output = smallest || std::ranges::find(kWithBetterOutput, mix.name) != std::end(kWithBetterOutput);
  if (model.n_expert == 8 && role == Role::attn_output && better_output) type = Type::Q5_K;
  // The smallest mixes have rules of their own for attn_v, which this does not touch.
  const bool lifted = role == Role::attn_v && is_70b(model) && !is_below_three_bits(mix.base);
  if (lifted && (type == Type::Q3_K || type == Type::Q4_K)) type = Type::Q5_K;
  return type;
}

}  // namespace

std::span<const Mix> mixes() { return kMixes; }

const Mix* find_mix(std::string_view name) {
  for (const Alias& a : kAliases) {
    if (equal_ignoring_case(a.alias, name)) name = a.name;
  }
  for (const Mix& mix : kMixes) {
    if (equal_ignoring_case(mix.name, name)) return &mix;
  }
  return nullptr;
}

bool is_quantizable(const MixTensor& tensor) {
  const std::string_view name = tensor.name;
  // As ggml counts dimensions: trailing ones are none.
  const bool matrix = std::any_of(tensor.shape.begin() + std::min<ptrdiff_t>(1, std::ssize(tensor.shape)),
                                  tensor.shape.end(), [](uint64_t n) { return n > 1; });
  return matrix && name.ends_with("weight") && name.find("_norm.weight") == std::string_view::npos &&
         name.find("ffn_gate_inp.weight") == std::string_view::npos;
}

std::vector<Type> choose_types(const Mix& mix, const MixModel& model, std::span<const MixTensor> tensors) {
  std::vector<Role> roles;
  for (const MixTensor& tensor : tensors) roles.push_back(role_of(tensor.name));
  const std::vector<int64_t> index = places(tensors, roles, model.n_expert > 1);
  const auto n_attn_v = std::count(roles.begin(), roles.end(), Role::attn_v);

  std::vector<Type> types;
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (!is_quantizable(tensors[i])) {
      types.push_back(tensors[i].kept);
      continue;
    }
    if (!format(mix.base).quantized) {
      types.push_back(mix.base);
      continue;
    }
    const int64_t count = roles[i] == Role::attn_v ? n_attn_v : static_cast<int64_t>(model.n_layer);
    Type type = wanted_type(mix, model, tensors[i], roles[i], {index[i], count});
    if (!divides(type, tensors[i])) type = smaller_blocks(type);
    if (!divides(type, tensors[i])) type = Type::F16;
    types.push_back(type);
  }
  return types;
}

}  // namespace shoehorn::quant
