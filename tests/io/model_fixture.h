// What LLM-Pruner saves: a pickled model object, its tensors spread over the modules' attributes.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "torch_fixture.h"

namespace shoehorn::test {

struct FixtureTensor {
  std::vector<int64_t> shape;
  std::vector<float> values;
};

struct ModelFixture {
  std::map<std::string, FixtureTensor> weights;  ///< by the names of state_dict()
  Json config;
  int64_t head_dim = 0;  ///< an attribute of the attention modules; 0: they have none
  bool at_root = false;  ///< the object itself instead of {'model': object, 'tokenizer': object}
  std::function<void(PickleWriter&)> beside = {};      ///< writes keys and values beside 'model'
  std::function<void(PickleWriter&)> attributes = {};  ///< writes further attributes of the model
  std::function<void(PickleWriter&)> parameters = {};  ///< writes further parameters of the model
};

/// The pickle and its storages apart, for damage to the former.
struct ModelFile {
  std::string pickle;
  std::vector<std::pair<std::string, std::string>> storages;
  std::string zip() const { return torch_file(pickle, storages); }
};

/// Pickles modules as torch 2 and transformers 4.30 do: classes by name, state with dicts of parameters, buffers and
/// children, a rotary table that is saved and one that is not.
class ModelPickler {
 public:
  explicit ModelPickler(const ModelFixture& fixture) : fixture_(fixture) {
    for (const auto& [name, tensor] : fixture.weights) {
      Node* node = &root_;
      size_t at = 0;
      for (size_t dot; (dot = name.find('.', at)) != std::string::npos; at = dot + 1) {
        auto& child = node->children[name.substr(at, dot - at)];
        if (child == nullptr) child = std::make_unique<Node>();
        node = child.get();
      }
      node->parameters.emplace_back(name.substr(at), &tensor);
    }
  }

  ModelFile write() {
    if (!fixture_.at_root) p_.op("}(").text("model");
    module("", root_);
    if (!fixture_.at_root) {
      p_.text("tokenizer").global("transformers.models.llama.tokenization_llama", "LlamaTokenizer").op(")\x81}(");
      p_.text("sp_model_kwargs").op("}").text("_pad_token").op("N").op("ub");
      if (fixture_.beside) fixture_.beside(p_);
      p_.op("u");
    }
    return {p_.done(), std::move(storages_)};
  }

 private:
  struct Node {
    std::map<std::string, std::unique_ptr<Node>> children;
    std::vector<std::pair<std::string, const FixtureTensor*>> parameters;
  };

  void ordered_dict() { p_.global("collections", "OrderedDict").op(")R("); }

  void tensor(const FixtureTensor& tensor) {
    std::vector<int64_t> stride(tensor.shape.size(), 1);
    for (size_t i = tensor.shape.size(); i-- > 1;) stride[i - 1] = stride[i] * tensor.shape[i];
    const std::string key = std::to_string(storages_.size());
    p_.tensor("FloatStorage", key, static_cast<int64_t>(tensor.values.size()), 0, tensor.shape, stride);
    storages_.emplace_back(
        key, std::string(reinterpret_cast<const char*>(tensor.values.data()), tensor.values.size() * sizeof(float)));
  }

  void json(const Json& value) {
    if (value.is_boolean()) {
      p_.op(value.get<bool>() ? "\x88" : "\x89");
    } else if (value.is_number_integer()) {
      p_.number(value.get<int64_t>());
    } else if (value.is_number()) {
      p_.real(value.get<double>());
    } else if (value.is_string()) {
      p_.text(value.get<std::string>());
    } else if (value.is_array()) {
      p_.op("](");
      for (const Json& entry : value) json(entry);
      p_.op("e");
    } else if (value.is_object()) {
      p_.op("}(");
      for (const auto& [key, entry] : value.items()) {
        p_.text(key);
        json(entry);
      }
      p_.op("u");
    } else {
      p_.op("N");
    }
  }

  /// Written once, then taken from the memo, as the modules share it.
  void config() {
    p_.text("config");
    if (config_written_) {
      p_.op("h\xc8");
      return;
    }
    config_written_ = true;
    p_.global("transformers.models.llama.configuration_llama", "LlamaConfig").op(")\x81q\xc8}(");
    for (const auto& [key, value] : fixture_.config.items()) {
      p_.text(key);
      json(value);
    }
    p_.text("torch_dtype").global("torch", "float16").text("_commit_hash").op("N").text("id2label").op("}");
    p_.number(0).text("LABEL_0").op("sub");
  }

  void set(std::initializer_list<const char*> members) {
    p_.global("__builtin__", "set").op("](");
    for (const char* member : members) p_.text(member);
    p_.op("e\x85R");
  }

  void rotary_module() {
    p_.global("transformers.models.llama.modeling_llama", "LlamaRotaryEmbedding").op(")\x81}(");
    p_.text("training").op("\x89").text("_parameters");
    ordered_dict();
    p_.op("u").text("_buffers");
    ordered_dict();
    p_.text("inv_freq");
    tensor({{2}, {1, 0.5f}});
    p_.text("_cos_cached");
    tensor({{1, 2}, {1, 0}});
    p_.op("u").text("_modules");
    ordered_dict();
    p_.op("u").text("_non_persistent_buffers_set");
    set({"_cos_cached"});
    p_.op("ub");
  }

  void module(const std::string& name, const Node& node) {
    const bool root = name.empty(), attention = name == "self_attn";
    if (root) {
      p_.global("LLMPruner.models.hf_llama.modeling_llama", "LlamaForCausalLM");
    } else {
      p_.global("torch.nn.modules.linear", "Linear");
    }
    p_.op(")\x81}(");
    p_.text("training").op("\x89").text("_backward_hooks");
    ordered_dict();
    p_.op("u").text("_is_full_backward_hook").op("N").text("_parameters");
    ordered_dict();
    for (const auto& [key, value] : node.parameters) {
      p_.text(key).global("torch._utils", "_rebuild_parameter").op("(");
      tensor(*value);
      p_.op("\x88").global("collections", "OrderedDict").op(")RtR");
    }
    if (!node.parameters.empty()) p_.text("bias").op("N");
    if (root && fixture_.parameters) fixture_.parameters(p_);
    p_.op("u").text("_buffers");
    ordered_dict();
    p_.op("u").text("_non_persistent_buffers_set");
    set({});
    if (root || attention) config();
    p_.text("_modules");
    ordered_dict();
    for (const auto& [key, child] : node.children) {
      p_.text(key);
      module(key, *child);
    }
    if (attention) {
      p_.text("rotary_emb");
      rotary_module();
    }
    p_.op("u");
    if (attention && fixture_.head_dim > 0) p_.text("head_dim").number(fixture_.head_dim);
    if (root && fixture_.attributes) fixture_.attributes(p_);
    p_.op("ub");
  }

  const ModelFixture& fixture_;
  Node root_;
  PickleWriter p_;
  std::vector<std::pair<std::string, std::string>> storages_;
  bool config_written_ = false;
};

inline ModelFile model_file(const ModelFixture& fixture) { return ModelPickler(fixture).write(); }

/// A model of one layer and the tensors that a Llama has there.
inline ModelFixture small_model() {
  ModelFixture fixture;
  fixture.config = {{"vocab_size", 3},        {"hidden_size", 4},       {"num_attention_heads", 2},
                    {"rms_norm_eps", 1e-5},   {"rope_theta", 10000.0},  {"rope_scaling", nullptr},
                    {"hidden_act", "silu"},   {"num_hidden_layers", 1}, {"architectures", {"LLaMAForCausalLM"}},
                    {"pad_token_id", nullptr}};
  const auto add = [&](const std::string& name, std::vector<int64_t> shape) {
    size_t n = 1;
    for (const int64_t dim : shape) n *= static_cast<size_t>(dim);
    fixture.weights[name] = {std::move(shape), std::vector<float>(n, 0.5f)};
  };
  add("model.embed_tokens.weight", {3, 4});
  add("model.norm.weight", {4});
  add("lm_head.weight", {3, 4});
  add("model.layers.0.input_layernorm.weight", {4});
  add("model.layers.0.post_attention_layernorm.weight", {4});
  for (const char* name : {"q", "k", "v"}) add(fmt::format("model.layers.0.self_attn.{}_proj.weight", name), {2, 4});
  add("model.layers.0.self_attn.o_proj.weight", {4, 2});
  add("model.layers.0.mlp.gate_proj.weight", {5, 4});
  add("model.layers.0.mlp.up_proj.weight", {5, 4});
  add("model.layers.0.mlp.down_proj.weight", {4, 5});
  return fixture;
}

}  // namespace shoehorn::test
