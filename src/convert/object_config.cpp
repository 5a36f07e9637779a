#include "convert/object_config.h"

#include <algorithm>

#include "io/checkpoint_tensor.h"
#include "models/model.h"

namespace shoehorn::convert {
namespace {

using models::Role;

/// What the configuration says is computed, or the object's class where it says nothing that is known: the first Llama
/// checkpoints call themselves LLaMAForCausalLM. nullptr when neither is known.
const models::Architecture* find_architecture(const std::string& class_name, Json& config) {
  const Json stated = config.value("architectures", Json());
  const bool is_stated = stated.is_array() && !stated.empty() && stated.front().is_string();
  if (is_stated) {
    if (const auto* found = models::find_hf_architecture(stated.front().get<std::string>())) return found;
  }
  const auto* found = models::find_hf_architecture(class_name);
  if (found != nullptr || !is_stated) config["architectures"] = Json::array({class_name});
  return found;
}

/// The tensors of one architecture by role.
class Tensors {
 public:
  Tensors(const io::Checkpoint& weights, const models::Architecture& architecture) : weights_(weights), architecture_(architecture) {}

  const io::CheckpointTensor* find(Role role, uint32_t layer = 0) const {
    for (const models::TensorRule& rule : architecture_.tensors) {
      if (rule.role == role) return find(rule, layer);
    }
    return nullptr;
  }
  bool has_layer(uint32_t layer) const {
    return std::any_of(architecture_.tensors.begin(), architecture_.tensors.end(), [&](const models::TensorRule& rule) {
      return rule.part != models::Part::kGlobal && find(rule, layer) != nullptr;
    });
  }
  /// Not where q, k and v are one matrix.
  bool tell_widths() const { return find(Role::kAttnQ) != find(Role::kAttnK) || find(Role::kAttnQ) == nullptr; }
  uint64_t rows(Role role, uint32_t layer) const {
    const io::CheckpointTensor* tensor = find(role, layer);
    return tensor == nullptr || tensor->shape.empty() ? 0 : tensor->shape[0];
  }
  /// Rows / head_dim.
  Expected<uint64_t> heads(Role role, uint32_t layer, uint64_t head_dim) const {
    const uint64_t n = rows(role, layer);
    if (n % head_dim != 0) {
      return fail(ErrorCode::kUnsupported, "tensor {} has {} rows, which are no whole heads of {}", find(role, layer)->name, n, head_dim);
    }
    return n / head_dim;
  }

 private:
  const io::CheckpointTensor* find(const models::TensorRule& rule, uint32_t layer) const {
    return weights_.find(models::with_layer(rule.hf_name, static_cast<int>(layer)));
  }

  const io::Checkpoint& weights_;
  const models::Architecture& architecture_;
};

uint64_t number(const Json& config, const char* key) {
  const auto it = config.find(key);
  if (it == config.end() || !it->is_number_integer()) return 0;
  return static_cast<uint64_t>(std::max<int64_t>(0, it->get<int64_t>()));
}

/// One number when it is the same for all layers.
Json per_layer(const std::vector<uint64_t>& values) {
  const bool same = std::all_of(values.begin(), values.end(), [&](uint64_t n) { return n == values.front(); });
  return same ? Json(values.front()) : Json(values);
}

}  // namespace

Expected<Json> object_config(const io::Checkpoint& weights, Json config) {
  if (!config.is_object()) return config;
  const io::PickledModel& model = *weights.model();
  const models::Architecture* architecture = find_architecture(model.class_name, config);
  if (architecture == nullptr) return config;
  const Tensors tensors(weights, *architecture);
  if (!tensors.tell_widths()) return config;

  uint64_t head_dim = number(config, "head_dim");
  if (head_dim == 0 && model.head_dim > 0) head_dim = static_cast<uint64_t>(model.head_dim);
  if (const uint64_t n = number(config, "num_attention_heads"); head_dim == 0 && n > 0) head_dim = number(config, "hidden_size") / n;
  if (head_dim == 0) {
    return fail(ErrorCode::kInvalid, "head_dim is missing and cannot be derived from hidden_size and num_attention_heads");
  }
  config["head_dim"] = head_dim;
  if (const auto* embedding = tensors.find(Role::kTokenEmbd); embedding != nullptr && embedding->shape.size() == 2) {
    config["hidden_size"] = embedding->shape[1];
  }

  std::vector<uint64_t> n_ff, n_head, n_head_kv;
  for (uint32_t layer = 0; tensors.has_layer(layer); ++layer) {
    n_ff.push_back(std::max(tensors.rows(Role::kFfnGate, layer), tensors.rows(Role::kFfnUp, layer)));
    SHOEHORN_TRY(const uint64_t q, tensors.heads(Role::kAttnQ, layer, head_dim));
    SHOEHORN_TRY(const uint64_t k, tensors.heads(Role::kAttnK, layer, head_dim));
    n_head.push_back(q);
    n_head_kv.push_back(k);
  }
  if (n_ff.empty()) return fail(ErrorCode::kInvalid, "no tensors of {}'s layers", model.class_name);
  config["num_hidden_layers"] = n_ff.size();
  config["intermediate_size"] = per_layer(n_ff);
  config["num_attention_heads"] = per_layer(n_head);
  config["num_key_value_heads"] = per_layer(n_head_kv);
  config.erase("block_configs");  // DeciLM's way to say the same
  return config;
}

}  // namespace shoehorn::convert
