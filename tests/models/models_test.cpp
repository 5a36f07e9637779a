#include <gtest/gtest.h>

#include <functional>
#include <set>

#include "models/gguf_hparams.h"
#include "models/hf_config.h"
#include "models/rope.h"
#include "support/support.h"

namespace shoehorn::models {
namespace {

Json llama31_8b() {
  return Json::parse(R"({"architectures": ["LlamaForCausalLM"], "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 14336,
    "max_position_embeddings": 131072, "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
    "rms_norm_eps": 1e-05, "rope_scaling": {"factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192, "rope_type": "llama3"}, "rope_theta": 500000.0, "tie_word_embeddings": false,
    "torch_dtype": "bfloat16", "vocab_size": 128256})");
}

TEST(ModelConfig, CountsTheParametersOfLlama31) {
  ASSERT_EXPECTED(const ModelConfig config, parse_model_config(llama31_8b()));
  EXPECT_STREQ(config.architecture->name, "llama");
  EXPECT_EQ(count_parameters(*config.architecture, config.hparams), 8030261248u);
  EXPECT_EQ(config.hparams.head_dim, 128u);
}

TEST(ModelConfig, WritesAJaggedLlamaAsDeciWithTheSeedsParameterCount) {
  Json json = llama31_8b();
  json["intermediate_size"] = Json::array();
  for (int i = 0; i < 32; ++i) json["intermediate_size"].push_back(i >= 4 && i <= 27 ? 10752 : 14336);
  ASSERT_EXPECTED(const ModelConfig config, parse_model_config(json));
  EXPECT_STREQ(config.architecture->name, "deci");
  EXPECT_EQ(count_parameters(*config.architecture, config.hparams), 6973296640u);
}

TEST(ModelConfig, ReadsDeciLmBlockConfigs) {
  Json json = llama31_8b();
  json["architectures"] = {"DeciLMForCausalLM"};
  json.erase("intermediate_size");
  json.erase("num_key_value_heads");
  json["num_hidden_layers"] = 3;
  json["block_configs"] = Json::parse(R"([
    {"attention": {"n_heads_in_group": 4, "no_op": false}, "ffn": {"ffn_mult": 5.25, "no_op": false}},
    {"attention": {"no_op": true}, "ffn": {"ffn_mult": 1.3125, "no_op": false}},
    {"attention": {"n_heads_in_group": 8}, "ffn": {"ffn_mult": 2.625}}])");
  ASSERT_EXPECTED(const ModelConfig config, parse_model_config(json));
  EXPECT_STREQ(config.architecture->name, "deci");
  EXPECT_EQ(config.hparams.layers[0], (LayerShape{32, 8, 14336}));
  EXPECT_EQ(config.hparams.layers[1], (LayerShape{0, 0, 3584}));
  EXPECT_EQ(config.hparams.layers[2], (LayerShape{32, 4, 7168}));
  json["block_configs"][1]["attention"] = {{"replace_with_linear", true}};
  const auto refused = parse_model_config(json);
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().message.find("replace_with_linear"), std::string::npos);
}

TEST(ModelConfig, ErrorsNameKeyAndValue) {
  const auto expect_error = [](const char* key, const Json& value, const std::string& part) {
    Json json = llama31_8b();
    json[key] = value;
    const auto config = parse_model_config(json);
    ASSERT_FALSE(config.has_value()) << key << " " << value;
    EXPECT_NE(config.error().message.find(part), std::string::npos) << config.error().message;
  };
  expect_error("hidden_size", -1, "hidden_size");
  expect_error("hidden_size", "4096", "hidden_size");
  expect_error("num_hidden_layers", 0, "num_hidden_layers is 0");
  expect_error("num_hidden_layers", 100000000, "num_hidden_layers");
  expect_error("num_key_value_heads", 5, "n_head_kv 5");
  expect_error("intermediate_size", Json::array({1, 2}), "2 entries");
  expect_error("architectures", Json::array({"MambaForCausalLM"}), "MambaForCausalLM");
  expect_error("architectures", Json::array({"Qwen2VLForCausalLM"}), "nearest by name is Qwen2ForCausalLM");
  expect_error("architectures", Json::array(), "architectures");
  expect_error("hidden_act", "gelu", "gelu");
  expect_error("quantization_config", {{"quant_method", "aqlm"}}, "already quantized (aqlm); gptq, awq, bitsandbytes");
  expect_error("rope_scaling", {{"rope_type", "longrope"}}, "long_factor");
  expect_error("rope_scaling", {{"rope_type", "longrope"}, {"long_factor", {1, 2}}, {"short_factor", {1, 2}}, {"original_max_position_embeddings", 64}},
               "2 factors for 64 pairs");
  expect_error("rope_scaling", {{"rope_type", "dynamic"}, {"factor", 2}}, "dynamic");
  expect_error("rms_norm_eps", 0, "rms_norm_eps");
  expect_error("head_dim", 127, "n_rot");
}

TEST(ModelConfig, RefusesAJaggedModelWhoseFirstLayerHasNoAttention) {
  Json json = llama31_8b();
  json["num_attention_heads"] = Json::array();
  for (int i = 0; i < 32; ++i) json["num_attention_heads"].push_back(i == 0 ? 0 : 32);
  json["head_dim"] = 128;
  const auto refused = parse_model_config(json);
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().message.find("layer 0"), std::string::npos) << refused.error().message;
}

TEST(ModelConfig, KnowsBiasesByArchitecture) {
  Json json = llama31_8b();
  json.erase("rope_scaling");
  const auto has = [](const ModelConfig& config, Role role) {
    for (const TensorSpec& spec : tensor_specs(*config.architecture, config.hparams)) {
      if (spec.rule->role == role) return true;
    }
    return false;
  };
  json["architectures"] = {"Qwen2ForCausalLM"};
  ASSERT_EXPECTED(const ModelConfig qwen2, parse_model_config(json));
  EXPECT_TRUE(has(qwen2, Role::kAttnQBias));
  EXPECT_FALSE(has(qwen2, Role::kAttnOutputBias));
  json["architectures"] = {"LlamaForCausalLM"};
  json["attention_bias"] = true;
  ASSERT_EXPECTED(const ModelConfig llama, parse_model_config(json));
  EXPECT_TRUE(has(llama, Role::kAttnQBias));
  EXPECT_TRUE(has(llama, Role::kAttnOutputBias));
}

TEST(ModelConfig, RefusesAJaggedQwen3WhichNoGgufCanSay) {
  Json json = llama31_8b();
  json["architectures"] = {"Qwen3ForCausalLM"};
  json.erase("rope_scaling");
  json["intermediate_size"] = Json::array();
  for (int i = 0; i < 32; ++i) json["intermediate_size"].push_back(i == 5 ? 1024 : 14336);
  const auto refused = parse_model_config(json);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::kUnsupported);
}

TEST(Llama3Rope, MatchesTheReferenceBands) {
  ASSERT_EXPECTED(const ModelConfig config, parse_model_config(llama31_8b()));
  const auto factors = llama3_rope_freqs(config.hparams);
  ASSERT_EQ(factors.size(), 64u);
  // Wavelength of pair i is 2 pi 500000^(i/64): short ones are left alone, long ones stretched by 8, between them a ramp.
  EXPECT_EQ(factors.front(), 1);
  EXPECT_EQ(factors.back(), 8);
  EXPECT_EQ(factors[28], 1);
  EXPECT_GT(factors[32], 1);
  EXPECT_LT(factors[32], 8);
  for (size_t i = 1; i < factors.size(); ++i) EXPECT_GE(factors[i], factors[i - 1]);
}

TEST(TensorSpecs, AreUniqueAndCoverTheReferenceFile) {
  SHOEHORN_SHARED(path, "reference/fable-10m-F16.gguf");
  ASSERT_EXPECTED(const auto file, io::GgufFile::open(path));
  ASSERT_EXPECTED(const auto model, read_gguf_model(file));
  EXPECT_EQ(count_parameters(*model.architecture, model.hparams), 9703680u);
  std::set<std::string> names;
  const auto specs = tensor_specs(*model.architecture, model.hparams);
  for (const FileTensor& tensor : gguf_tensors(specs)) EXPECT_TRUE(names.insert(tensor.name).second);
  EXPECT_EQ(names.size(), file.tensors().size());
}

TEST(TensorSpecs, RulesOfOneNameAreItsRows) {
  Json config = {{"architectures", {"Phi3ForCausalLM"}}, {"vocab_size", 50}, {"hidden_size", 32}, {"num_hidden_layers", 1}, {"num_attention_heads", 4},
                 {"num_key_value_heads", 2}, {"intermediate_size", 24}, {"max_position_embeddings", 64}};
  ASSERT_EXPECTED(const auto phi3, parse_model_config(config));
  const auto specs = tensor_specs(*phi3.architecture, phi3.hparams);
  const auto gguf = gguf_tensors(specs), hf = hf_tensors(specs);
  const auto named = [](const std::vector<FileTensor>& tensors, std::string_view name) {
    const auto found = std::find_if(tensors.begin(), tensors.end(), [&](const FileTensor& t) { return t.name == name; });
    return found == tensors.end() ? FileTensor() : *found;
  };
  const FileTensor qkv = named(gguf, "blk.0.attn_qkv.weight");
  EXPECT_EQ(qkv.shape, (std::vector<uint64_t>{32, 64}));
  ASSERT_EQ(qkv.parts.size(), 3u);
  EXPECT_EQ(qkv.parts[0].rule->role, Role::kAttnQ);
  EXPECT_EQ(qkv.parts[1].gguf_row, 32u);
  EXPECT_EQ(qkv.parts[2].gguf_row, 48u);
  EXPECT_EQ(qkv.parts[2].n_rows(), 16u);
  EXPECT_EQ(named(hf, "model.layers.0.mlp.gate_up_proj.weight").shape, (std::vector<uint64_t>{32, 48}));
  EXPECT_EQ(gguf.size(), 3u + 6u);

  // Heads that do not make up n_embd, and layers of their own widths: as others read them.
  config["head_dim"] = 4;
  ASSERT_EXPECTED(const auto narrow, parse_model_config(config));
  EXPECT_STREQ(narrow.architecture->name, "deci");

  config["architectures"] = {"GPTNeoXForCausalLM"};
  config["head_dim"] = 8;
  config["num_key_value_heads"] = 4;
  config["rotary_pct"] = 0.5;
  ASSERT_EXPECTED(const auto neox, parse_model_config(config));
  EXPECT_EQ(neox.hparams.n_rot, 4u);
  const auto by_heads = tensor_specs(*neox.architecture, neox.hparams);
  for (const TensorSpec& spec : by_heads) {
    if (spec.rule->role != Role::kAttnV) continue;
    EXPECT_EQ(spec.hf_row, 16u);
    EXPECT_EQ(spec.hf_run, 8u);
    EXPECT_EQ(spec.hf_stride, 24u);
    EXPECT_EQ(spec.gguf_row, 64u);
  }
  config["head_dim"] = 4;
  EXPECT_NE(parse_model_config(config).error().message.find("heads that do not make up"), std::string::npos);
}

/// Dimensions of a small model of this architecture, jagged where it can be.
/// With five experts, of which three work on a token.
Hparams with_experts(Hparams h, const Architecture& architecture) {
  h.n_expert = 5;
  h.n_expert_used = 3;
  h.renormalize_experts = architecture.renormalize_experts;
  if (has_role(architecture, Role::kFfnSharedShare)) h.n_ff_shared = 48;
  return h;
}

Hparams small(const Architecture& architecture) {
  Hparams h;
  h.n_vocab = 64;
  h.n_embd = 32;
  h.n_layer = 2;
  h.head_dim = h.n_rot = 8;
  h.n_ctx_train = 128;
  h.norm_eps = 1e-5f;
  h.rope_theta = 12345;
  h.layers = {{4, 2, 96}, {4, 2, 96}};
  h.attention_bias = architecture.default_attention_bias;
  if (std::string_view(architecture.name).starts_with("gemma") && architecture.own_keys != nullptr) h.window = 16, h.attention_softcap = 5, h.output_softcap = 6;
  h.norm = architecture.norm;
  if (architecture.norm == NormKind::kLayer) architecture.complete(h);
  h.attention_output_bias = h.attention_bias && has_role(architecture, Role::kAttnOutputBias);
  if (architecture.name == std::string_view("mpt")) h.alibi_max_bias = 4, h.clamp_qkv = 6;
  h.tied_embeddings = !has_role(architecture, Role::kOutput);
  if (architecture.per_layer_keys) h.layers[1] = {0, 0, 64};
  h.rope_scaling = {.type = RopeScalingType::kYarn, .factor = 4, .original_context = 32};
  return std::string_view(architecture.name).ends_with("moe") ? with_experts(h, architecture) : h;
}

/// A file of zeros with these dimensions; `change` may alter what it says.
Expected<io::GgufFile> write_zeros(const Architecture& architecture, const Hparams& h,
                                   const std::function<void(io::GgufMetadata&)>& change = {}) {
  const std::string path = test::temp_dir() + "/model.gguf";
  io::GgufWriter writer;
  write_gguf_hparams(architecture, h, writer.metadata());
  if (change) change(writer.metadata());
  const auto specs = tensor_specs(architecture, h);
  for (const FileTensor& tensor : gguf_tensors(specs)) SHOEHORN_RETURN_IF_ERROR(writer.add_tensor(tensor.name, quant::Type::F32, tensor.shape));
  SHOEHORN_RETURN_IF_ERROR(writer.begin(path));
  for (const TensorSpec& spec : specs) {
    uint64_t n = 1;
    for (const uint64_t dim : spec.shape) n *= dim;
    std::vector<float> values(n);
    if (is_rope_divisors(spec.rule->role)) values = rope_divisors(h, spec.rule->role);
    SHOEHORN_RETURN_IF_ERROR(writer.append(std::as_bytes(std::span(values))));
  }
  SHOEHORN_RETURN_IF_ERROR(writer.commit());
  return io::GgufFile::open(path);
}

/// R4 is in the name that stock readers refuse, and in a key that says which transform the weights were made for.
TEST(GgufHparams, TransformsAreInTheNameAndTheMetadata) {
  for (const Architecture* architecture : architectures()) {
    Hparams h = small(*architecture);
    h.ffn_hadamard = true;
    ASSERT_EXPECTED(const auto file, write_zeros(*architecture, h));
    const std::string name = std::string(architecture->name) + "-r4";
    EXPECT_EQ(*file.metadata().get_string("general.architecture"), name);
    const std::vector<std::string>* made = file.metadata().get_strings(name + ".feed_forward_hadamard");
    ASSERT_NE(made, nullptr);
    EXPECT_EQ(made->at(0), "12 x 8");
    ASSERT_EXPECTED(const auto model, read_gguf_model(file));
    EXPECT_EQ(model.architecture, architecture);
    EXPECT_TRUE(model.hparams.ffn_hadamard);
  }
  Hparams h = small(*find_architecture("llama"));
  h.ffn_hadamard = true;
  const auto refused = [&](const std::function<void(io::GgufMetadata&)>& change) -> std::string {
    const auto file = write_zeros(*find_architecture("llama"), h, change);
    if (!file) return file.error().message;
    const auto model = read_gguf_model(*file);
    return model ? "" : model.error().message;
  };
  EXPECT_NE(refused([](auto& m) { m.erase("llama-r4.feed_forward_hadamard"); }).find("missing"), std::string::npos);
  const auto other = [](std::vector<std::string> said) {
    return [said](io::GgufMetadata& m) { m.set("llama-r4.feed_forward_hadamard", io::GgufArray(said)); };
  };
  EXPECT_NE(refused(other({"12 x 8"})).find("not 2 strings"), std::string::npos);
  EXPECT_NE(refused(other({"12 x 8", "3 blocks of 32"})).find("layer 1 has \"3 blocks of 32\", this program's transform is \"12 x 8\""),
            std::string::npos);
  EXPECT_EQ(refused(other({"12 x 8", "12 x 8"})), "");
}

TEST(ModelConfig, ARotatedClassIsItsArchitectureWithATransform) {
  Json config = llama31_8b();
  config["architectures"] = {"RotatedLlamaForCausalLM"};
  ASSERT_EXPECTED(const auto model, parse_model_config(config));
  EXPECT_STREQ(model.architecture->name, "llama");
  EXPECT_TRUE(model.hparams.ffn_hadamard);
  config["intermediate_size"] = 95;
  const auto odd = parse_model_config(config);
  ASSERT_FALSE(odd.has_value());
  EXPECT_NE(odd.error().message.find("95"), std::string::npos) << odd.error().message;
  config["architectures"] = {"RotatedTurtleForCausalLM"};
  EXPECT_NE(parse_model_config(config).error().message.find("RotatedTurtleForCausalLM"), std::string::npos);
}

TEST(GgufHparams, ExpertsAreOneTensorOfThreeDimensions) {
  for (const char* name : {"llama", "qwen2moe", "qwen3moe"}) {
    const Architecture& architecture = *find_architecture(name);
    const Hparams h = with_experts(small(architecture), architecture);
    ASSERT_EXPECTED(const auto file, write_zeros(architecture, h));
    EXPECT_EQ(file.find("blk.1.ffn_down_exps.weight")->shape, (std::vector<uint64_t>{96, 32, 5}));
    EXPECT_EQ(file.find("blk.1.ffn_gate_inp.weight")->shape, (std::vector<uint64_t>{32, 5}));
    EXPECT_EQ(file.find("blk.1.ffn_down.weight"), nullptr);
    ASSERT_EXPECTED(const auto model, read_gguf_model(file));
    EXPECT_EQ(model.hparams.n_expert, 5u);
    EXPECT_EQ(model.hparams.n_expert_used, 3u);
    EXPECT_EQ(model.hparams.n_ff_shared, h.n_ff_shared);
    EXPECT_EQ(model.hparams.layers[1].n_ff, 96u);
    EXPECT_EQ(model.hparams.renormalize_experts, std::string(name) != "qwen2moe");
    uint64_t n = 0;
    for (const io::GgufTensor& tensor : file.tensors()) n += tensor.n_elements();
    EXPECT_EQ(count_parameters(architecture, h), n);

    const auto refused = [&](const std::string& key, uint32_t value) -> std::string {
      const auto changed = write_zeros(architecture, h, [&](io::GgufMetadata& m) { m.set(name + ("." + key), value); });
      if (!changed) return changed.error().message;
      const auto read = read_gguf_model(*changed);
      return read ? "" : read.error().message;
    };
    EXPECT_NE(refused("expert_count", 1025).find("the number of experts is 1025, expected 0 to 1024"), std::string::npos);
    EXPECT_NE(refused("expert_count", 4).find("ffn_gate_inp.weight has shape [32, 5], expected [32, 4]"), std::string::npos) << refused("expert_count", 4);
    EXPECT_NE(refused("expert_used_count", 6).find("a token goes to is 6, expected 1 to 5"), std::string::npos);
    EXPECT_NE(refused("expert_used_count", 0).find("a token goes to is 0"), std::string::npos);
  }
}

/// What would be written otherwise than others read it is refused; nothing is allocated for experts of no model.
TEST(ModelConfig, ExpertsThatNoGgufHas) {
  const Json qwen = {{"architectures", {"Qwen3MoeForCausalLM"}}, {"vocab_size", 64}, {"hidden_size", 32}, {"num_hidden_layers", 2}, {"num_attention_heads", 4},
                     {"intermediate_size", 64}, {"moe_intermediate_size", 48}, {"num_experts", 4}, {"num_experts_per_tok", 2}, {"norm_topk_prob", true}};
  ASSERT_EXPECTED(const auto model, parse_model_config(qwen));
  EXPECT_EQ(model.hparams.layers[0].n_ff, 48u);
  const auto refused = [&](const char* key, const Json& value) -> std::string {
    Json changed = qwen;
    changed[key] = value;
    const auto read = parse_model_config(changed);
    return read ? "" : read.error().message;
  };
  EXPECT_NE(refused("norm_topk_prob", false).find("norm_topk_prob is false; readers of a GGUF take it for true"), std::string::npos);
  EXPECT_NE(refused("decoder_sparse_step", 2).find("decoder_sparse_step is 2"), std::string::npos);
  EXPECT_NE(refused("mlp_only_layers", {1}).find("mlp_only_layers [1]"), std::string::npos);
  EXPECT_NE(refused("moe_intermediate_size", nullptr).find("moe_intermediate_size is missing"), std::string::npos);
  EXPECT_NE(refused("num_experts", 0).find("num_experts is missing"), std::string::npos);
  EXPECT_NE(refused("num_experts", 1000000).find("the number of experts is 1000000"), std::string::npos);
  EXPECT_NE(refused("num_experts_per_tok", 5).find("is 5, expected 1 to 4"), std::string::npos);
  EXPECT_NE(refused("mlp_bias", true).find("experts with biases"), std::string::npos);

  Json mixtral = {{"architectures", {"MixtralForCausalLM"}}, {"vocab_size", 64}, {"hidden_size", 32}, {"num_hidden_layers", 2}, {"num_attention_heads", 4},
                  {"intermediate_size", {64, 32}}, {"head_dim", 8}, {"num_local_experts", 4}, {"num_experts_per_tok", 2}};
  const auto jagged = parse_model_config(mixtral);
  ASSERT_FALSE(jagged.has_value());
  EXPECT_NE(jagged.error().message.find("MixtralForCausalLM with layers of different shapes"), std::string::npos) << jagged.error().message;
  mixtral["intermediate_size"] = 64;
  mixtral["num_hidden_layers"] = 4000;
  mixtral["num_local_experts"] = 1024;
  const auto many = parse_model_config(mixtral);
  ASSERT_FALSE(many.has_value());
  EXPECT_NE(many.error().message.find("experts of all layers is 4096000, expected 1 to 65536"), std::string::npos) << many.error().message;
}

TEST(GgufHparams, RoundTripForEveryArchitecture) {
  for (const Architecture* architecture : architectures()) {
    const Hparams h = small(*architecture);
    ASSERT_EXPECTED(const auto file, write_zeros(*architecture, h));
    ASSERT_EXPECTED(const auto model, read_gguf_model(file));
    EXPECT_EQ(model.architecture, architecture);
    EXPECT_EQ(model.hparams.window, h.window);
    EXPECT_EQ(model.hparams.layers[0].attention.windowed, h.window > 0);
    std::vector<LayerShape> widths = model.hparams.layers, expected = h.layers;
    for (auto* layers : {&widths, &expected}) {
      for (LayerShape& layer : *layers) layer.attention = {};
    }
    EXPECT_EQ(widths, expected);
    EXPECT_EQ(model.hparams.norm, h.norm);
    EXPECT_EQ(model.hparams.norm_bias, h.norm_bias);
    EXPECT_EQ(model.hparams.mlp_bias, h.mlp_bias);
    EXPECT_EQ(model.hparams.alibi_max_bias, h.alibi_max_bias);
    EXPECT_EQ(model.hparams.clamp_qkv, h.clamp_qkv);
    EXPECT_EQ(model.hparams.parallel_residual, h.parallel_residual);
    EXPECT_EQ(model.hparams.rope_theta, h.rope_theta);
    EXPECT_EQ(model.hparams.n_vocab, h.n_vocab);
    EXPECT_EQ(model.hparams.attention_bias, h.attention_bias);
    EXPECT_EQ(model.hparams.rope_scaling.type, RopeScalingType::kYarn);
    EXPECT_EQ(model.hparams.rope_scaling.original_context, 32u);
  }
}

TEST(GgufHparams, LongRopeIsInTensors) {
  const Architecture& phi3 = *find_architecture("phi3");
  Hparams h = small(phi3);
  h.rope_scaling = {.type = RopeScalingType::kLongRope, .original_context = 32, .attn_factor = 1.25f, .short_factors = {1, 1, 1.5f, 2}, .long_factors = {1, 2, 4, 9}};
  ASSERT_EXPECTED(const auto file, write_zeros(phi3, h));
  ASSERT_NE(file.find("rope_factors_long.weight"), nullptr);
  ASSERT_EXPECTED(const auto model, read_gguf_model(file));
  const RopeScaling& read = model.hparams.rope_scaling;
  EXPECT_EQ(read.type, RopeScalingType::kLongRope);
  EXPECT_EQ(read.short_factors, h.rope_scaling.short_factors);
  EXPECT_EQ(read.long_factors, h.rope_scaling.long_factors);
  EXPECT_EQ(read.attn_factor, 1.25f);
  EXPECT_EQ(read.original_context, 32u);
  // The context that there is room for decides, and not how much of it is used.
  const double base = std::pow(12345.0, -6.0 / 8);
  EXPECT_NEAR(rope_frequencies(model.hparams, nullptr, 32).per_pair[3], base / 2, 1e-9);
  EXPECT_NEAR(rope_frequencies(model.hparams, nullptr, 33).per_pair[3], base / 9, 1e-9);
  EXPECT_EQ(rope_frequencies(model.hparams, nullptr, 33).magnitude, 1.25);

  h.rope_scaling.long_factors[2] = 0;
  ASSERT_EXPECTED(const auto broken, write_zeros(phi3, h));
  EXPECT_FALSE(read_gguf_model(broken).has_value());
}

}  // namespace
}  // namespace shoehorn::models
