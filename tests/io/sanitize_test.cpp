#include "io/sanitize.h"

#include <deque>

#include "io_support.h"

namespace shoehorn::io {
namespace {

/// A list of tensors over bytes that outlive it.
class Tensors {
 public:
  Tensors& add(const std::string& name, std::vector<uint64_t> shape = {2, 2}, DType dtype = DType::F32,
               std::string bytes = "") {
    bytes.resize(*element_count(shape) * dtype_info(dtype).bytes);
    bytes_.push_back(std::move(bytes));
    list_.push_back(
        {.name = name, .dtype = dtype, .shape = std::move(shape), .data = std::as_bytes(std::span(bytes_.back()))});
    return *this;
  }
  Expected<SanitizedTensors> run() { return sanitize(list_); }

 private:
  std::deque<std::string> bytes_;
  std::vector<StoredTensor> list_;
};

std::vector<std::string> names(const SanitizedTensors& result) {
  std::vector<std::string> out;
  for (const auto& tensor : result.tensors) out.push_back(tensor.name);
  return out;
}

TEST(Sanitize, WrapperPrefixesGo) {
  const std::pair<const char*, const char*> cases[] = {
      {"model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.weight"},
      {"lm_head.weight", "lm_head.weight"},
      {"module.model.norm.weight", "model.norm.weight"},
      {"_orig_mod.model.norm.weight", "model.norm.weight"},
      {"module._orig_mod.module.model.norm.weight", "model.norm.weight"},
      {"base_model.model.model.layers.3.self_attn.q_proj.weight", "model.layers.3.self_attn.q_proj.weight"},
      {"base_model.model.lm_head.weight", "lm_head.weight"},
      {"_fsdp_wrapped_module.model.layers.1._fsdp_wrapped_module.mlp.up_proj.weight",
       "model.layers.1.mlp.up_proj.weight"},
      {"model.layers.1._orig_mod.mlp._checkpoint_wrapped_module.up_proj.weight", "model.layers.1.mlp.up_proj.weight"},
      {"model.model.embed_tokens.weight", "model.embed_tokens.weight"},
      {"tok_embeddings.weight", "tok_embeddings.weight"},
  };
  for (const auto& [given, expected] : cases) {
    ASSERT_EXPECTED(const auto result, Tensors().add(given).run());
    EXPECT_EQ(names(result), std::vector<std::string>{expected});
  }
}

TEST(Sanitize, ABareModelGetsItsPrefix) {
  ASSERT_EXPECTED(auto result, Tensors()
                                   .add("embed_tokens.weight")
                                   .add("layers.0.mlp.up_proj.weight")
                                   .add("norm.weight")
                                   .add("lm_head.weight")
                                   .run());
  EXPECT_EQ(names(result), (std::vector<std::string>{"model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight",
                                                     "model.norm.weight", "lm_head.weight"}));
  ASSERT_EXPECTED(result, Tensors().add("tok_embeddings.weight").add("layers.0.attention.wq.weight").run());
  EXPECT_EQ(names(result), (std::vector<std::string>{"tok_embeddings.weight", "layers.0.attention.wq.weight"}));
}

TEST(Sanitize, LeftoversOfTrainingAndPruningAreDroppedAndListed) {
  struct Case {
    const char* name;
    std::vector<uint64_t> shape;
    DType dtype;
    const char* reason;
  };
  const Case cases[] = {
      {"model.layers.0.self_attn.rotary_emb.inv_freq", {4}, DType::F32, "rotary table"},
      {"model.rotary_emb.cos_cached", {4, 4}, DType::F32, "rotary table"},
      {"model.layers.0.attn.bias", {1, 1, 4, 4}, DType::F32, "attention mask"},
      {"model.layers.0.attn.masked_bias", {}, DType::F32, "attention mask"},
      {"model.layers.0.mlp.up_proj.weight_mask", {2, 2}, DType::F32, "pruner's buffer"},
      {"model.layers.0.mlp.importance", {2}, DType::F32, "pruner's buffer"},
      {"model.layers.0.mlp.up_proj.acc_grad", {2, 2}, DType::F32, "pruner's buffer"},
      {"model.layers.0.exp_avg", {2}, DType::F32, "optimizer state"},
      {"model.position_ids", {1, 8}, DType::I64, "whole numbers"},
      {"model.keep", {2}, DType::BOOL, "whole numbers"},
      {"model.temperature", {}, DType::F32, "a scalar"},
  };
  for (const Case& c : cases) {
    ASSERT_EXPECTED(const auto result, Tensors().add("model.norm.weight").add(c.name, c.shape, c.dtype).run());
    EXPECT_EQ(names(result), std::vector<std::string>{"model.norm.weight"});
    ASSERT_EQ(result.dropped.size(), 1u) << c.name;
    EXPECT_EQ(result.dropped[0].find(std::string(c.name) + " (" + c.reason), 0u) << result.dropped[0];
  }
  // A real bias of attention is a weight.
  ASSERT_EXPECTED(const auto result, Tensors().add("model.layers.0.self_attn.q_proj.bias", {4}).run());
  EXPECT_EQ(result.tensors.size(), 1u);
}

TEST(Sanitize, PrunedWeightsAreMasked) {
  const std::string weight = test::raw_array<float>({1, 2, 3, 4});
  const std::pair<DType, std::string> masks[] = {
      {DType::F32, test::raw_array<float>({1, 0, 0, 1})},
      {DType::BF16, test::raw_array<uint16_t>({0x3f80, 0, 0, 0x3f80})},
      {DType::BOOL, test::raw_array<uint8_t>({1, 0, 0, 1})},
      {DType::I64, test::raw_array<int64_t>({1, 0, 0, 1})},
  };
  for (const auto& [dtype, mask] : masks) {
    ASSERT_EXPECTED(const auto result, Tensors()
                                           .add("model.layers.0.mlp.up_proj.weight_orig", {2, 2}, DType::F32, weight)
                                           .add("model.layers.0.mlp.up_proj.weight_mask", {2, 2}, dtype, mask)
                                           .run());
    EXPECT_EQ(names(result), std::vector<std::string>{"model.layers.0.mlp.up_proj.weight"});
    std::vector<float> values(4);
    read_floats(result.tensors[0], 0, 4, values.data());
    EXPECT_EQ(values, (std::vector<float>{1, 0, 0, 4}));
    EXPECT_EQ(result.dropped,
              std::vector<std::string>{"model.layers.0.mlp.up_proj.weight_mask (mask, applied to the weight)"});
  }
}

TEST(Sanitize, MasksThatCannotBeAppliedAreRefused) {
  const std::string half = test::raw_array<float>({0.5, 1, 1, 1});
  EXPECT_FAILS(Tensors().add("a.weight_orig").add("a.weight_mask", {2, 2}, DType::F32, half).run(), kUnsupported,
               "a.weight: its mask holds values other than 0 and 1");
  EXPECT_FAILS(Tensors().add("a.weight_orig").add("a.weight_mask", {4}).run(), kInvalid, "its mask has shape [4]");
  EXPECT_FAILS(Tensors().add("a.weight_orig").run(), kUnsupported, "a.weight_orig is half of a parametrization");
  EXPECT_FAILS(Tensors().add("a.weight_orig").add("a.weight_mask").add("a.weight").run(), kInvalid,
               "both a.weight and");
}

TEST(Sanitize, QuantizedCheckpointsAndAdaptersAreRefused) {
  const std::pair<const char*, const char*> cases[] = {
      {"model.layers.0.mlp.up_proj.qweight", "GPTQ or AWQ"},
      {"model.layers.0.mlp.up_proj.weight.absmax", "bitsandbytes"},
      {"model.layers.0.mlp.up_proj.SCB", "bitsandbytes"},
      {"model.layers.0.mlp.up_proj.weight_scale_inv", "scaled FP8"},
      {"base_model.model.model.layers.0.mlp.up_proj.lora_A.default.weight", "unmerged LoRA"},
  };
  for (const auto& [name, reason] : cases) {
    EXPECT_FAILS(Tensors().add("model.norm.weight").add(name).run(), kUnsupported, reason);
  }
  EXPECT_FAILS(Tensors().add("model.layers.0.mlp.up_proj.weight", {2, 2}, DType::U8).run(), kUnsupported,
               "a weight of whole numbers");
}

TEST(Sanitize, TwoTensorsWithOneNameAreRefused) {
  EXPECT_FAILS(Tensors().add("module.a.weight").add("a.weight").run(), kInvalid, "a.weight is there twice");
}

}  // namespace
}  // namespace shoehorn::io
