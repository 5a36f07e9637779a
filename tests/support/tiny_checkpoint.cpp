#include "support/tiny_checkpoint.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <random>

#include "io/safetensors.h"
#include "models/hf_config.h"
#include "support/support.h"

namespace shoehorn::test {
namespace {

using models::Hparams;
using models::Role;
using Row = std::vector<double>;

/// UTF-8 of the character that stands for a byte in the byte-level alphabet.
std::string byte_char(int byte) {
  const auto printable = [](int b) { return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174; };
  int code = byte;
  if (!printable(byte)) {
    code = 256;
    for (int b = 0; b < byte; ++b) code += printable(b) ? 0 : 1;
  }
  if (code < 0x80) return std::string(1, static_cast<char>(code));
  return {static_cast<char>(0xc0 | (code >> 6)), static_cast<char>(0x80 | (code & 63))};
}

using Weights = std::map<std::string, std::vector<float>>;

/// Rows [first, first + n) of every `stride` rows, as many times as there are; a row has n_cols elements.
std::vector<float> some_rows(const std::vector<float>& all, size_t first, size_t n, size_t stride, size_t n_cols) {
  std::vector<float> out;
  for (size_t begin = first; begin < all.size() / n_cols; begin += stride)
    out.insert(out.end(), all.begin() + static_cast<long>(begin * n_cols), all.begin() + static_cast<long>((begin + n) * n_cols));
  return out;
}

/// The weights of any architecture under the names that llama has, matrices of several projections taken apart: as the modeling code in
/// transformers (and MosaicML's, for MPT) does it.
Weights under_llama_names(const Weights& weights, const Hparams& h) {
  static const std::pair<const char*, const char*> kNames[] = {
      {"gpt_neox.embed_in.", "model.embed_tokens."}, {"gpt_neox.final_layer_norm.", "model.norm."}, {"embed_out.", "lm_head."},
      {"gpt_neox.layers.", "model.layers."}, {"attention.query_key_value.", "self_attn.per_head."}, {"attention.dense.", "self_attn.o_proj."},
      {"dense_h_to_4h.", "up_proj."}, {"dense_4h_to_h.", "down_proj."},
      {"transformer.wte.", "model.embed_tokens."}, {"transformer.norm_f.", "model.norm."}, {"transformer.blocks.", "model.layers."},
      {"norm_1.", "input_layernorm."}, {"norm_2.", "post_attention_layernorm."}, {"attn.Wqkv.", "self_attn.qkv_proj."}, {"attn.out_proj.", "self_attn.o_proj."},
      {"inner_attn_ln.", "attn_sub_norm."}, {"ffn_layernorm.", "ffn_sub_norm."},
      {"ffn.up_proj.", "mlp.up_proj."}, {"ffn.down_proj.", "mlp.down_proj."},
      {"block_sparse_moe.", "mlp."}, {"w1.", "gate_proj."}, {"w2.", "down_proj."}, {"w3.", "up_proj."}};
  Weights out;
  for (const auto& [stored, values] : weights) {
    std::string name = stored;
    for (const auto& [theirs, ours] : kNames) {
      const size_t at = name.find(theirs);
      if (at != std::string::npos && (at == 0 || name[at - 1] == '.')) name.replace(at, std::string(theirs).size(), ours);
    }
    const auto put = [&](const char* group, const char* part, std::vector<float> rows) {
      std::string split = name;
      out[split.replace(split.find(group), std::string(group).size(), part)] = std::move(rows);
    };
    const size_t n_cols = name.ends_with(".bias") ? 1 : h.n_embd, n = values.size() / n_cols;
    if (name.find("per_head") != std::string::npos) {
      for (size_t i = 0; i < 3; ++i) put("per_head", (const char*[]){"q_proj", "k_proj", "v_proj"}[i], some_rows(values, i * h.head_dim, h.head_dim, 3 * h.head_dim, n_cols));
    } else if (name.find("qkv_proj") != std::string::npos) {
      const auto& shape = h.layers[static_cast<size_t>(std::stoi(name.substr(13)))];
      const size_t n_q = shape.n_head * h.head_dim, n_kv = shape.n_head_kv * h.head_dim;
      put("qkv_proj", "q_proj", some_rows(values, 0, n_q, n, n_cols));
      put("qkv_proj", "k_proj", some_rows(values, n_q, n_kv, n, n_cols));
      put("qkv_proj", "v_proj", some_rows(values, n_q + n_kv, n_kv, n, n_cols));
    } else if (name.find("gate_up_proj") != std::string::npos) {
      put("gate_up_proj", "gate_proj", some_rows(values, 0, n / 2, n, n_cols));
      put("gate_up_proj", "up_proj", some_rows(values, n / 2, n / 2, n, n_cols));
    } else {
      out[name] = values;
    }
  }
  return out;
}

class PlainModel {
 public:
  PlainModel(const TinyCheckpoint& checkpoint, InputSquares* squares) : squares_(squares) {
    auto config = models::parse_model_config(checkpoint.config);
    if (!config) std::abort();
    h_ = config->hparams;
    weights_ = under_llama_names(checkpoint.weights, h_);
    gain_offset_ = static_cast<double>(config->architecture->gain_offset);
  }

  std::vector<Row> forward(const std::vector<int>& tokens) {
    const size_t n = tokens.size();
    n_tokens_ = n;
    std::vector<Row> x(n);
    for (size_t t = 0; t < n; ++t) {
      x[t].resize(h_.n_embd);
      for (size_t i = 0; i < h_.n_embd; ++i) 
        x[t][i] = weight("model.embed_tokens.weight")[static_cast<size_t>(tokens[t]) * h_.n_embd + i] * static_cast<double>(h_.embedding_scale);
    }
    for (size_t layer = 0; layer < h_.n_layer; ++layer) {
      const std::string p = "model.layers." + std::to_string(layer) + ".";
      const std::vector<Row> before = x;
      if (h_.layers[layer].n_head > 0) attention(p, h_.layers[layer], x);
      if (h_.layers[layer].n_ff > 0) mlp(p, h_.parallel_residual ? before : std::vector<Row>(x), x);
    }
    std::vector<Row> logits;
    for (const Row& row : x) {
      logits.push_back(linear(h_.tied_embeddings ? "model.embed_tokens" : "lm_head", norm("model.norm.weight", row)));
      for (double& logit : logits.back()) logit = capped(logit, h_.output_softcap);
    }
    return logits;
  }

 private:
  const std::vector<float>& weight(const std::string& name) const { return weights_.at(name); }

  Row clamped(Row x) const {
    const auto limit = static_cast<double>(h_.clamp_qkv);
    for (double& v : x) v = limit > 0 ? std::clamp(v, -limit, limit) : v;
    return x;
  }

  static double capped(double x, float cap) { return cap > 0 ? static_cast<double>(cap) * std::tanh(x / static_cast<double>(cap)) : x; }

  /// Gemma 2 and later have norms behind each part, and other names for those before the MLP.
  bool post_norms(const std::string& p) const { return weights_.contains(p + "post_feedforward_layernorm.weight"); }

  Row layer_norm(const std::string& name, const Row& x) const {
    const auto n = static_cast<double>(x.size());
    double mean = 0, variance = 0;
    for (const double v : x) mean += v / n;
    for (const double v : x) variance += (v - mean) * (v - mean) / n;
    const auto bias = weights_.find(name.substr(0, name.rfind('.')) + ".bias");
    Row out;
    for (size_t i = 0; i < x.size(); ++i) {
      out.push_back((x[i] - mean) / std::sqrt(variance + static_cast<double>(h_.norm_eps)) * static_cast<double>(weight(name)[i]));
      if (bias != weights_.end()) out.back() += static_cast<double>(bias->second[i]);
    }
    return out;
  }

  Row norm(const std::string& name, const Row& x) const {
    if (h_.norm == models::NormKind::kLayer) return layer_norm(name, x);
    double sum = 0;
    for (const double v : x) sum += v * v;
    const double scale = 1 / std::sqrt(sum / static_cast<double>(x.size()) + static_cast<double>(h_.norm_eps));
    Row out;
    for (size_t i = 0; i < x.size(); ++i) out.push_back(x[i] * scale * (static_cast<double>(weight(name)[i]) + gain_offset_));
    return out;
  }

  Row norm_if(const std::string& name, const Row& x) const { return weights_.contains(name) ? norm(name, x) : x; }

  Row linear(const std::string& name, const Row& x) const {
    const auto& w = weight(name + ".weight");
    if (squares_ != nullptr) {
      Row& sums = (*squares_)[name + ".weight"];
      sums.resize(x.size());
      for (size_t c = 0; c < x.size(); ++c) sums[c] += x[c] * x[c];
    }
    const auto bias = weights_.find(name + ".bias");
    Row out(w.size() / x.size());
    for (size_t r = 0; r < out.size(); ++r) {
      out[r] = bias == weights_.end() ? 0 : static_cast<double>(bias->second[r]);
      for (size_t c = 0; c < x.size(); ++c) out[r] += static_cast<double>(w[r * x.size() + c]) * x[c];
    }
    return out;
  }

  /// Frequency of pair i and the magnitude, from the papers' formulas.
  std::pair<double, double> frequency(size_t i, bool windowed) const {
    const bool own = windowed && h_.window_rope_theta != 0;
    const auto s = own ? models::RopeScaling() : h_.rope_scaling;
    const double base = static_cast<double>(own ? h_.window_rope_theta : h_.rope_theta), d = h_.n_rot, factor = static_cast<double>(s.factor);
    const double f = std::pow(base, -2.0 * static_cast<double>(i) / d);
    switch (s.type) {
      case models::RopeScalingType::kNone: return {f, 1};
      case models::RopeScalingType::kLinear: return {f / factor, 1};
      case models::RopeScalingType::kLongRope: {
        const auto& factors = n_tokens_ > s.original_context ? s.long_factors : s.short_factors;
        const double stretched = static_cast<double>(h_.n_ctx_train) / s.original_context;
        return {f / static_cast<double>(factors[i]), std::sqrt(1 + std::log(stretched) / std::log(s.original_context))};
      }
      case models::RopeScalingType::kLlama3: return {f / static_cast<double>(models::llama3_rope_freqs(h_)[i]), 1};
      case models::RopeScalingType::kYarn: break;
    }
    const auto dim = [&](double rotations) { return d * std::log(s.original_context / (rotations * 2 * M_PI)) / (2 * std::log(base)); };
    const double low = std::max(0.0, std::floor(dim(static_cast<double>(s.beta_fast))));
    const double high = std::min(d - 1, std::ceil(dim(static_cast<double>(s.beta_slow))));
    const double ramp = std::clamp((static_cast<double>(i) - low) / std::max(high - low, 0.001), 0.0, 1.0);
    return {f / factor * ramp + f * (1 - ramp), 0.1 * std::log(factor) + 1};
  }

  void rotate(double* head, size_t position, bool windowed) const {
    for (size_t i = 0; i < h_.n_rot / 2; ++i) {
      const auto [f, magnitude] = frequency(i, windowed);
      const double c = std::cos(static_cast<double>(position) * f) * magnitude, s = std::sin(static_cast<double>(position) * f) * magnitude;
      const double a = head[i], b = head[i + h_.n_rot / 2];
      head[i] = a * c - b * s;
      head[i + h_.n_rot / 2] = a * s + b * c;
    }
  }

  void attention(const std::string& p, const models::LayerShape& shape, std::vector<Row>& x) const {
    const size_t n = x.size(), d = h_.head_dim;
    std::vector<Row> q(n), k(n), v(n);
    for (size_t t = 0; t < n; ++t) {
      const Row normed = norm_if(p + "input_layernorm.weight", x[t]);
      q[t] = clamped(linear(p + "self_attn.q_proj", normed));
      k[t] = clamped(linear(p + "self_attn.k_proj", normed));
      v[t] = clamped(linear(p + "self_attn.v_proj", normed));
      for (auto* heads : {&q[t], &k[t]}) {
        const std::string norm_name = p + "self_attn." + (heads == &q[t] ? "q" : "k") + "_norm.weight";
        const bool has_norm = weights_.contains(norm_name), per_head = has_norm && weight(norm_name).size() == d;
        if (has_norm && !per_head) *heads = norm(norm_name, *heads);
        for (size_t i = 0; i < heads->size(); i += d) {
          if (per_head) {
            const Row head = norm(norm_name, Row(heads->begin() + static_cast<long>(i), heads->begin() + static_cast<long>(i + d)));
            std::copy(head.begin(), head.end(), heads->begin() + static_cast<long>(i));
          }
          if (shape.attention.rotated) rotate(heads->data() + i, t, shape.attention.windowed);
        }
      }
    }
    for (size_t t = 0; t < n; ++t) {
      Row out(shape.n_head * d, 0.0);
      for (size_t head = 0; head < shape.n_head; ++head) {
        const size_t kv = head / (shape.n_head / shape.n_head_kv);
        Row scores(t + 1);
        double total = 0;
        const size_t first = shape.attention.windowed && t + 1 > h_.window ? t + 1 - h_.window : 0;
        const double scale = h_.attention_scale > 0 ? static_cast<double>(h_.attention_scale) : 1 / std::sqrt(static_cast<double>(d));
        for (size_t u = first; u <= t; ++u) {
          double dot = 0;
          for (size_t i = 0; i < d; ++i) dot += q[t][head * d + i] * k[u][kv * d + i];
          double score = capped(dot * scale, h_.attention_softcap);
          if (h_.alibi_max_bias > 0) score -= slope(head, shape.n_head) * static_cast<double>(t - u);
          scores[u] = std::exp(score);
          total += scores[u];
        }
        for (size_t u = first; u <= t; ++u) {
          for (size_t i = 0; i < d; ++i) out[head * d + i] += scores[u] / total * v[u][kv * d + i];
        }
      }
      Row projected = linear(p + "self_attn.o_proj", norm_if(p + "self_attn.attn_sub_norm.weight", out));
      if (post_norms(p)) projected = norm(p + "post_attention_layernorm.weight", projected);
      for (size_t i = 0; i < projected.size(); ++i) x[t][i] += projected[i];
    }
  }

  /// As MosaicML's code has them: of twice as many heads every other one first, where the heads are no power of two.
  double slope(size_t head, size_t n_head) const {
    size_t power = 1;
    while (power < n_head) power *= 2;
    size_t m = head + 1;
    if (power != n_head) m = head < power / 2 ? 2 * (head + 1) : 2 * (head - power / 2) + 1;
    return std::pow(2.0, -static_cast<double>(m) * static_cast<double>(h_.alibi_max_bias) / static_cast<double>(power));
  }

  double activated(double x) const {
    switch (h_.activation) {
      case Activation::kSilu: return x / (1 + std::exp(-x));
      case Activation::kGeluTanh: return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
      case Activation::kGelu: return 0.5 * x * (1 + std::erf(x / std::sqrt(2)));
      case Activation::kRelu2: return x > 0 ? x * x : 0;
    }
    return NAN;
  }

  /// What an MLP makes of the normed x: "model.layers.0.mlp.".
  Row one_mlp(const std::string& p, const Row& normed) const {
    const bool gated = weights_.contains(p + "gate_proj.weight");
    Row gate = linear(p + (gated ? "gate_proj" : "up_proj"), normed);
    for (double& g : gate) g = activated(g);
    if (gated) {
      const Row up = linear(p + "up_proj", normed);
      for (size_t i = 0; i < gate.size(); ++i) gate[i] *= up[i];
    }
    return linear(p + "down_proj", norm_if(p + "ffn_sub_norm.weight", gate));
  }

  /// What the experts make of it that the router gives the largest shares, as transformers' MixtralSparseMoeBlock and
  /// Qwen2MoeSparseMoeBlock have it.
  Row experts(const std::string& p, const Row& normed) const {
    Row share = linear(p + "gate", normed);
    double total = 0;
    for (double& s : share) total += s = std::exp(s);
    for (double& s : share) s /= total;
    Row out(normed.size());
    double used = 0;
    std::vector<std::pair<double, size_t>> chosen;
    Row left = share;
    for (uint32_t i = 0; i < h_.n_expert_used; ++i) {
      const auto best = static_cast<size_t>(std::max_element(left.begin(), left.end()) - left.begin());
      chosen.emplace_back(share[best], best);
      used += share[best];
      left[best] = -1;
    }
    for (const auto& [s, expert] : chosen) {
      const Row y = one_mlp(p + "experts." + std::to_string(expert) + ".", normed);
      for (size_t i = 0; i < y.size(); ++i) out[i] += s / (h_.renormalize_experts ? used : 1) * y[i];
    }
    if (!weights_.contains(p + "shared_expert_gate.weight")) return out;
    const double s = 1 / (1 + std::exp(-linear(p + "shared_expert_gate", normed)[0]));
    const Row y = one_mlp(p + "shared_expert.", normed);
    for (size_t i = 0; i < y.size(); ++i) out[i] += s * y[i];
    return out;
  }

  /// Adds to x what the MLP makes of `input`.
  void mlp(const std::string& p, const std::vector<Row>& input, std::vector<Row>& x) const {
    for (size_t t = 0; t < x.size(); ++t) {
      Row& row = x[t];
      const Row normed = post_norms(p) ? norm_if(p + "pre_feedforward_layernorm.weight", input[t]) : norm(p + "post_attention_layernorm.weight", input[t]);
      Row down = h_.n_expert > 0 ? experts(p + "mlp.", normed) : one_mlp(p + "mlp.", normed);
      if (post_norms(p)) down = norm(p + "post_feedforward_layernorm.weight", down);
      for (size_t i = 0; i < down.size(); ++i) row[i] += down[i];
    }
  }

  std::map<std::string, std::vector<float>> weights_;
  InputSquares* squares_;
  Hparams h_;
  double gain_offset_ = 0;
  size_t n_tokens_ = 0;
};

}  // namespace

Json tiny_config() {
  return {{"architectures", {"LlamaForCausalLM"}}, {"hidden_act", "silu"}, {"vocab_size", 300}, {"hidden_size", 64},
          {"num_hidden_layers", 3}, {"num_attention_heads", 4}, {"num_key_value_heads", 2}, {"intermediate_size", 96},
          {"head_dim", 16}, {"max_position_embeddings", 256}, {"rms_norm_eps", 1e-5}, {"rope_theta", 10000.0},
          {"tie_word_embeddings", false}, {"torch_dtype", "float32"}, {"bos_token_id", 256}, {"eos_token_id", 257}};
}

Json as_architecture(Json config, std::string_view name) {
  const models::Architecture* architecture = models::find_hf_architecture(name);
  if (architecture == nullptr) std::abort();
  config["architectures"] = {name};
  const int head_dim = config["head_dim"];
  if (architecture->whole_heads && architecture->jagged_as == nullptr) {
    config["num_attention_heads"] = config["num_key_value_heads"] = config["hidden_size"].get<int>() / head_dim;
  }
  if (!models::has_role(*architecture, Role::kOutput)) config["tie_word_embeddings"] = true;
  if (name == "Gemma2ForCausalLM") config["attn_logit_softcapping"] = 3.0, config["final_logit_softcapping"] = 4.0;
  if (name.starts_with("Gemma") && name != "GemmaForCausalLM") {
    config["sliding_window"] = 6;
    config["query_pre_attn_scalar"] = config["head_dim"];
  }
  if (name == "Phi3ForCausalLM") {
    config["partial_rotary_factor"] = 0.75;
    config["original_max_position_embeddings"] = 8;
    config["sliding_window"] = 7;
    Json shorter = Json::array(), longer = Json::array();
    for (int i = 0; i < head_dim * 3 / 8; ++i) shorter.push_back(1 + 0.1 * i), longer.push_back(1 + 0.5 * i * i);
    config["rope_scaling"] = {{"type", "longrope"}, {"short_factor", shorter}, {"long_factor", longer}};
  }
  if (name == "SmolLM3ForCausalLM") config["num_hidden_layers"] = 5;
  if (name == "Gemma3ForCausalLM") config["num_hidden_layers"] = 7, config["rope_theta"] = 1e6;
  static constexpr const char* kActivationNames[kActivations] = {"silu", "gelu_pytorch_tanh", "gelu", "relu2"};
  config["hidden_act"] = kActivationNames[static_cast<size_t>(architecture->activation)];
  if (name == "GPTNeoXForCausalLM") {
    config["rotary_pct"] = 0.5;
  }
  if (name == "MixtralForCausalLM") config["num_local_experts"] = 5, config["num_experts_per_tok"] = 2;
  if (name == "Qwen2MoeForCausalLM" || name == "Qwen3MoeForCausalLM") {
    config["num_experts"] = 5;
    config["num_experts_per_tok"] = 3;
    config["moe_intermediate_size"] = config["intermediate_size"];
    config["norm_topk_prob"] = name == "Qwen3MoeForCausalLM";
  }
  if (name == "Qwen2MoeForCausalLM") config["shared_expert_intermediate_size"] = 80;
  if (name == "MPTForCausalLM" || name == "MptForCausalLM") {
    config["num_attention_heads"] = config["num_key_value_heads"] = 6;  // no power of two
    config["hidden_size"] = 6 * head_dim;
    config["no_bias"] = name == "MPTForCausalLM";
    config["attn_config"] = {{"alibi", true}, {"clip_qkv", 1.5}, {"attn_impl", "torch"}};
  }
  return config;
}

std::string tiny_tokenizer_json(int n_vocab) {
  Json vocab = Json::object();
  for (int b = 0; b < 256; ++b) vocab[byte_char(b)] = b;
  for (int i = 258; i < n_vocab; ++i) vocab["<unused" + std::to_string(i) + ">"] = i;
  Json added = Json::array();
  for (const auto& [id, text] : {std::pair{256, "<|begin|>"}, {257, "<|end|>"}}) {
    added.push_back({{"id", id}, {"content", text}, {"special", true}, {"normalized", false}, {"lstrip", false}, {"rstrip", false},
                     {"single_word", false}});
  }
  const char* regex = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  const Json json = {
      {"version", "1.0"},
      {"added_tokens", added},
      {"normalizer", nullptr},
      {"pre_tokenizer",
       {{"type", "Sequence"},
        {"pretokenizers",
         {{{"type", "Split"}, {"pattern", {{"Regex", regex}}}, {"behavior", "Isolated"}, {"invert", false}},
          {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", false}}}}}},
      {"post_processor", nullptr},
      {"decoder", {{"type", "ByteLevel"}}},
      {"model", {{"type", "BPE"}, {"ignore_merges", true}, {"vocab", vocab}, {"merges", Json::array()}}}};
  return json.dump();
}

TinyCheckpoint make_tiny_checkpoint(const Json& config, uint32_t seed) {
  TinyCheckpoint out{"", config, {}};
  auto parsed = models::parse_model_config(config);
  if (!parsed) std::abort();
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 1);
  const auto specs = models::tensor_specs(*parsed->architecture, parsed->hparams);
  for (const models::FileTensor& tensor : models::hf_tensors(specs)) {
    uint64_t n = 1;
    for (const uint64_t dim : tensor.shape) n *= dim;
    std::vector<float>& values = out.weights[tensor.name];
    const bool gain = models::is_gain(tensor.parts.front().rule->role);
    const float scale = tensor.shape.size() == 2 ? 1.5f / std::sqrt(static_cast<float>(tensor.shape[0])) : 0.3f;
    for (uint64_t i = 0; i < n; ++i) values.push_back((gain ? 1 - parsed->architecture->gain_offset : 0.0f) + scale * normal(random));
  }
  out.directory = write_checkpoint(out);
  return out;
}

std::string write_checkpoint(const TinyCheckpoint& checkpoint) {
  const std::string directory = temp_dir();
  auto parsed = models::parse_model_config(checkpoint.config);
  if (!parsed) std::abort();
  write_text(directory + "/config.json", checkpoint.config.dump());
  write_text(directory + "/tokenizer.json", tiny_tokenizer_json(static_cast<int>(parsed->hparams.n_vocab)));
  write_text(directory + "/tokenizer_config.json", R"({"bos_token": "<|begin|>", "eos_token": "<|end|>", "add_bos_token": true})");
  io::SafetensorsWriter writer;
  std::vector<const std::vector<float>*> order;
  const auto specs = models::tensor_specs(*parsed->architecture, parsed->hparams);
  for (const models::FileTensor& tensor : models::hf_tensors(specs)) {
    if (!writer.add_tensor(tensor.name, io::DType::F32, {tensor.shape.rbegin(), tensor.shape.rend()})) std::abort();
    order.push_back(&checkpoint.weights.at(tensor.name));
  }
  if (!writer.begin(directory)) std::abort();
  for (const auto* values : order) {
    if (!writer.append(std::as_bytes(std::span(*values)))) std::abort();
  }
  if (!writer.commit()) std::abort();
  return directory;
}

std::vector<std::vector<double>> plain_forward(const TinyCheckpoint& checkpoint, const std::vector<int>& tokens, InputSquares* squares) {
  return PlainModel(checkpoint, squares).forward(tokens);
}

}  // namespace shoehorn::test
