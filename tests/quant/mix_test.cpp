#include "quant/mix.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

namespace shoehorn::quant {
namespace {

/// The matrices and vectors of a Llama whose MLP is `n_ff(layer)` wide, in the order of layers.
template <class Width>
std::vector<MixTensor> llama(uint64_t n_layer, uint64_t n_embd, uint64_t n_embd_kv, uint64_t n_vocab, bool tied,
                             Width n_ff) {
  std::vector<MixTensor> tensors;
  tensors.push_back({"token_embd.weight", {n_embd, n_vocab}});
  tensors.push_back({"output_norm.weight", {n_embd}});
  if (!tied) tensors.push_back({"output.weight", {n_embd, n_vocab}});
  tensors.push_back({"rope_freqs.weight", {64}});
  for (uint64_t layer = 0; layer < n_layer; ++layer) {
    const std::string blk = "blk." + std::to_string(layer) + ".";
    const uint64_t width = n_ff(layer);
    tensors.push_back({blk + "attn_norm.weight", {n_embd}});
    tensors.push_back({blk + "attn_q.weight", {n_embd, n_embd}});
    tensors.push_back({blk + "attn_k.weight", {n_embd, n_embd_kv}});
    tensors.push_back({blk + "attn_v.weight", {n_embd, n_embd_kv}});
    tensors.push_back({blk + "attn_output.weight", {n_embd, n_embd}});
    tensors.push_back({blk + "ffn_norm.weight", {n_embd}});
    tensors.push_back({blk + "ffn_gate.weight", {n_embd, width}});
    tensors.push_back({blk + "ffn_up.weight", {n_embd, width}});
    tensors.push_back({blk + "ffn_down.weight", {width, n_embd}});
  }
  return tensors;
}

const MixModel k8B{.n_layer = 32, .n_head = 32, .n_head_kv = 8};

std::vector<MixTensor> llama_8b(bool pruned) {
  return llama(32, 4096, 1024, 128256, false,
               [&](uint64_t layer) { return pruned && layer >= 4 && layer <= 27 ? 10752 : 14336; });
}

Type type_of(const char* mix, const MixModel& model, const std::vector<MixTensor>& tensors, const std::string& name) {
  const auto types = choose_types(*find_mix(mix), model, tensors);
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (tensors[i].name == name) return types[i];
  }
  ADD_FAILURE() << "no tensor " << name;
  return Type::F32;
}

double tensor_gib(const char* mix, const std::vector<MixTensor>& tensors) {
  const auto types = choose_types(*find_mix(mix), k8B, tensors);
  double bytes = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    uint64_t n = 1;
    for (const uint64_t d : tensors[i].shape) n *= d;
    bytes += static_cast<double>(row_bytes(format(types[i]), n));
  }
  return bytes / (1 << 30);
}

constexpr double kMetadataGib = 0.0085;  // the Llama-3 vocabulary and merges in a GGUF: under 9 MB

TEST(Mix, GivesLlama31_8BTheKnownFileSizes) {
  EXPECT_NEAR(tensor_gib("Q4_K_M", llama_8b(false)), 4.58, kMetadataGib);
  EXPECT_NEAR(tensor_gib("Q3_K_M", llama_8b(false)), 3.74, kMetadataGib);
}

TEST(Mix, GivesThePruned8BItsKnownFileSizes) {
  const double q4 = tensor_gib("Q4_K_M", llama_8b(true)), q3 = tensor_gib("Q3_K_M", llama_8b(true));
  EXPECT_LT(q4, 3.9936);
  EXPECT_GT(q4, 3.9936 - kMetadataGib);
  EXPECT_LT(q3, 3.2691);
  EXPECT_GT(q3, 3.2691 - kMetadataGib);
}

TEST(Mix, LeavesVectorsNormsAndOtherTensorsAlone) {
  const std::vector<MixTensor> tensors = {{"blk.0.attn_norm.weight", {4096}},
                                          {"blk.0.attn_q.bias", {4096, 2}, Type::F16},
                                          {"blk.0.attn_q_norm.weight", {128, 2}},
                                          {"blk.0.ffn_gate_inp.weight", {4096, 8}},
                                          {"blk.0.attn_q.weight", {4096, 1}, Type::BF16},
                                          {"odd", {}},
                                          {"blk.0.attn_k.weight", {4096, 2}}};
  const auto types = choose_types(*find_mix("Q4_K_M"), k8B, tensors);
  EXPECT_EQ(types, (std::vector<Type>{Type::F32, Type::F16, Type::F32, Type::F32, Type::BF16, Type::F32, Type::Q4_K}));
}

TEST(Mix, FloatMixesConvertMatricesOnly) {
  const auto tensors = llama_8b(false);
  for (const char* name : {"F32", "F16", "BF16"}) {
    const Mix& mix = *find_mix(name);
    const auto types = choose_types(mix, k8B, tensors);
    for (size_t i = 0; i < tensors.size(); ++i) EXPECT_EQ(types[i], tensors[i].shape.size() > 1 ? mix.base : Type::F32);
  }
}

TEST(Mix, TiedEmbeddingsTakeTheTypeOfTheOutput) {
  const MixModel tied{.n_layer = 16, .n_head = 32, .n_head_kv = 8, .tied_embeddings = true};
  const auto tensors = llama(16, 2048, 512, 128256, true, [](uint64_t) { return 8192; });
  EXPECT_EQ(type_of("Q4_K_M", tied, tensors, "token_embd.weight"), Type::Q6_K);
  EXPECT_EQ(type_of("Q8_0", tied, tensors, "token_embd.weight"), Type::Q8_0);
  EXPECT_EQ(type_of("TQ2_0", tied, tensors, "token_embd.weight"), Type::Q6_K);
  EXPECT_EQ(type_of("Q4_K_M", k8B, llama_8b(false), "token_embd.weight"), Type::Q4_K);
  EXPECT_EQ(type_of("TQ2_0", k8B, llama_8b(false), "token_embd.weight"), Type::Q4_K);
}

TEST(Mix, MoreBitsGoToTheFirstAndLastEighthAndEveryThirdBetween) {
  const auto tensors = llama_8b(false);
  std::set<int> more;
  for (int layer = 0; layer < 32; ++layer) {
    const std::string blk = "blk." + std::to_string(layer) + ".";
    const Type v = type_of("Q4_K_M", k8B, tensors, blk + "attn_v.weight");
    EXPECT_EQ(v, type_of("Q4_K_M", k8B, tensors, blk + "ffn_down.weight"));
    if (v == Type::Q6_K) more.insert(layer);
  }
  EXPECT_EQ(more, (std::set<int>{0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31}));
}

TEST(Mix, CountsByLayerWhateverTheOrderOfTheFile) {
  auto tensors = llama_8b(false);
  const auto name = [](const MixTensor& t) { return t.name; };
  std::ranges::sort(tensors, {}, name);  // as text: blk.10 before blk.2
  EXPECT_EQ(type_of("Q3_K_M", k8B, tensors, "blk.1.attn_v.weight"), Type::Q5_K);
  EXPECT_EQ(type_of("Q3_K_M", k8B, tensors, "blk.10.attn_v.weight"), Type::Q4_K);
  EXPECT_EQ(type_of("Q3_K_M", k8B, tensors, "blk.1.ffn_down.weight"), Type::Q5_K);
}

TEST(Mix, CountsTheTensorsPresentNotTheLayers) {
  // Without attention in layer 1, the attn_v of layer 2 is the second there is.
  auto tensors = llama_8b(false);
  std::erase_if(tensors, [](const MixTensor& t) { return t.name.starts_with("blk.1.attn"); });
  EXPECT_EQ(type_of("Q3_K_M", k8B, tensors, "blk.2.attn_v.weight"), Type::Q5_K);
  EXPECT_EQ(type_of("Q3_K_M", k8B, tensors, "blk.3.attn_v.weight"), Type::Q4_K);
  EXPECT_EQ(type_of("Q3_K_M", k8B, tensors, "blk.2.ffn_down.weight"), Type::Q4_K);
}

TEST(Mix, SharedKeyValueHeadsGetMoreBits) {
  MixModel model = k8B;
  const auto tensors = llama_8b(false);
  EXPECT_EQ(type_of("Q2_K", model, tensors, "blk.5.attn_v.weight"), Type::Q4_K);
  EXPECT_EQ(type_of("IQ4_XS", model, tensors, "blk.5.attn_v.weight"), Type::Q5_K);
  model.n_head_kv = 16;
  EXPECT_EQ(type_of("Q2_K", model, tensors, "blk.5.attn_v.weight"), Type::Q3_K);
  EXPECT_EQ(type_of("IQ4_XS", model, tensors, "blk.5.attn_v.weight"), Type::IQ4_XS);
  model.n_head_kv = 0;
  EXPECT_EQ(type_of("Q2_K", model, tensors, "blk.5.attn_v.weight"), Type::Q3_K);
}

TEST(Mix, EightyLayersWithGroupedHeadsLiftAttnV) {
  MixModel model{.n_layer = 80, .n_head = 64, .n_head_kv = 8};
  const auto tensors = llama(80, 8192, 1024, 32000, false, [](uint64_t) { return 28672; });
  EXPECT_EQ(type_of("Q4_K_S", model, tensors, "blk.40.attn_v.weight"), Type::Q5_K);
  EXPECT_EQ(type_of("Q3_K_S", model, tensors, "blk.40.attn_v.weight"), Type::Q5_K);
  EXPECT_EQ(type_of("Q2_K", model, tensors, "blk.40.attn_v.weight"), Type::Q5_K);
  EXPECT_EQ(type_of("IQ3_M", model, tensors, "blk.40.attn_v.weight"), Type::Q5_K);
  EXPECT_EQ(type_of("IQ2_M", model, tensors, "blk.40.attn_v.weight"), Type::Q4_K);
  model.n_head_kv = 64;
  EXPECT_EQ(type_of("Q4_K_S", model, tensors, "blk.40.attn_v.weight"), Type::Q4_K);
}

TEST(Mix, AnImportanceMatrixChangesTheFirstFfnDown) {
  MixModel with = k8B;
  with.has_imatrix = true;
  const auto tensors = llama_8b(false);
  EXPECT_EQ(type_of("Q4_0", k8B, tensors, "blk.3.ffn_down.weight"), Type::Q4_0);
  EXPECT_EQ(type_of("Q4_0", with, tensors, "blk.3.ffn_down.weight"), Type::Q4_1);
  EXPECT_EQ(type_of("Q4_0", with, tensors, "blk.4.ffn_down.weight"), Type::Q4_0);
  EXPECT_EQ(type_of("IQ4_XS", k8B, tensors, "blk.3.ffn_down.weight"), Type::Q5_K);
  EXPECT_EQ(type_of("IQ4_XS", with, tensors, "blk.3.ffn_down.weight"), Type::IQ4_XS);
}

TEST(Mix, TheMixesOfTwoBitsKeepMoreForTheEndsAndForAttention) {
  MixModel model = k8B;
  model.has_imatrix = true;
  const auto tensors = llama_8b(false);
  const auto type = [&](const char* mix, const char* name) { return type_of(mix, model, tensors, name); };
  EXPECT_EQ(type("IQ2_XXS", "output.weight"), Type::Q5_K);
  EXPECT_EQ(type("IQ2_XXS", "token_embd.weight"), Type::Q2_K);
  EXPECT_EQ(type("IQ2_XXS", "blk.3.ffn_down.weight"), Type::Q2_K);
  EXPECT_EQ(type("IQ2_XXS", "blk.4.ffn_down.weight"), Type::IQ2_XXS);
  EXPECT_EQ(type("IQ2_XXS", "blk.4.attn_v.weight"), Type::Q4_K);
  EXPECT_EQ(type("IQ2_XXS", "blk.4.attn_output.weight"), Type::IQ2_XXS);
  EXPECT_EQ(type("IQ2_S", "blk.4.attn_output.weight"), Type::IQ3_S);
  EXPECT_EQ(type("IQ2_S", "blk.4.ffn_up.weight"), Type::IQ2_XS);
  EXPECT_EQ(type("IQ2_M", "blk.4.ffn_up.weight"), Type::IQ2_S);
  EXPECT_EQ(type("IQ1_S", "blk.4.ffn_up.weight"), Type::IQ1_S);
  EXPECT_EQ(type("IQ1_M", "blk.4.attn_output.weight"), Type::IQ2_XXS);
  model.n_head_kv = 16;
  EXPECT_EQ(type("IQ2_XS", "blk.4.attn_v.weight"), Type::Q2_K);
  EXPECT_EQ(type("IQ2_M", "blk.4.attn_v.weight"), Type::IQ3_S);
}

TEST(Mix, TheMixesOfThreeBitsSaveOnQueriesAndKeys) {
  MixModel model = k8B;
  const auto tensors = llama_8b(false);
  const auto type = [&](const char* mix, const char* name) { return type_of(mix, model, tensors, name); };
  EXPECT_EQ(type("IQ3_XXS", "blk.4.attn_q.weight"), Type::IQ2_S);
  EXPECT_EQ(type("IQ3_XXS", "blk.4.attn_k.weight"), Type::IQ2_S);
  EXPECT_EQ(type("IQ3_XXS", "blk.3.ffn_down.weight"), Type::Q4_K);
  EXPECT_EQ(type("IQ3_XXS", "blk.4.ffn_down.weight"), Type::Q3_K);
  EXPECT_EQ(type("IQ3_XS", "blk.4.attn_k.weight"), Type::IQ3_XXS);
  EXPECT_EQ(type("IQ3_XS", "blk.3.ffn_gate.weight"), Type::IQ3_S);
  EXPECT_EQ(type("IQ3_XS", "blk.4.ffn_gate.weight"), Type::IQ3_XXS);
  EXPECT_EQ(type("IQ3_XS", "blk.27.ffn_up.weight"), Type::IQ3_XXS);
  EXPECT_EQ(type("IQ3_XS", "blk.28.ffn_up.weight"), Type::IQ3_S);
  EXPECT_EQ(type("IQ3_S", "output.weight"), Type::Q6_K);
  EXPECT_EQ(type("IQ3_M", "blk.3.ffn_down.weight"), Type::Q4_K);
  model.has_imatrix = true;
  EXPECT_EQ(type("IQ3_XXS", "blk.3.ffn_down.weight"), Type::IQ3_XXS);
  model.n_head_kv = 16;
  EXPECT_EQ(type("IQ3_XXS", "blk.3.attn_v.weight"), Type::IQ3_XXS);
  model.has_imatrix = false;
  EXPECT_EQ(type("IQ3_XXS", "blk.3.attn_v.weight"), Type::IQ3_S);
}

TEST(Mix, RowsOfOddLengthFallBackToSmallerBlocks) {
  const MixModel model{.n_layer = 5, .n_head = 8, .n_head_kv = 4};
  const auto tensors = llama(5, 128, 64, 105, false, [](uint64_t) { return 352; });
  EXPECT_EQ(type_of("Q4_K_S", model, tensors, "blk.0.attn_q.weight"), Type::Q5_0);
  EXPECT_EQ(type_of("Q5_K_S", model, tensors, "blk.0.attn_q.weight"), Type::Q5_1);
  EXPECT_EQ(type_of("Q6_K", model, tensors, "blk.0.attn_q.weight"), Type::Q8_0);
  EXPECT_EQ(type_of("Q2_K", model, tensors, "blk.0.attn_q.weight"), Type::IQ4_NL);
  EXPECT_EQ(type_of("Q3_K_S", model, tensors, "blk.0.attn_q.weight"), Type::IQ4_NL);
  for (const char* mix : {"IQ4_XS", "IQ3_S", "IQ3_XXS", "IQ2_M", "IQ2_XS", "IQ2_XXS"}) {
    EXPECT_EQ(type_of(mix, model, tensors, "blk.0.attn_q.weight"), Type::IQ4_NL) << mix;
  }
  EXPECT_EQ(type_of("TQ1_0", model, tensors, "blk.0.attn_q.weight"), Type::Q4_0);
  EXPECT_EQ(type_of("Q4_K_M", model, tensors, "output.weight"), Type::Q8_0);
  EXPECT_EQ(type_of("Q4_0", model, tensors, "output.weight"), Type::Q8_0);
}

TEST(Mix, RowsThatNoBlockDividesStayF16) {
  const MixModel model{.n_layer = 5, .n_head = 8, .n_head_kv = 4};
  const auto tensors = llama(5, 64, 32, 512, false, [](uint64_t) { return 172; });
  for (const char* mix : {"Q4_K_M", "Q8_0", "Q4_0", "Q2_K", "TQ2_0"}) {
    EXPECT_EQ(type_of(mix, model, tensors, "blk.0.ffn_down.weight"), Type::F16) << mix;
  }
}

TEST(MixTable, NamesAreUniqueInAnyCaseAndAliasesMeanTheMediumMix) {
  std::set<std::string_view> names;
  std::set<uint32_t> file_types;
  for (const Mix& mix : mixes()) {
    EXPECT_TRUE(names.insert(mix.name).second) << mix.name;
    EXPECT_TRUE(file_types.insert(mix.file_type).second) << mix.name;
    EXPECT_EQ(find_mix(mix.name), &mix);
  }
  EXPECT_EQ(find_mix("q4_k_m")->name, "Q4_K_M");
  EXPECT_EQ(find_mix("Q4_K")->name, "Q4_K_M");
  EXPECT_EQ(find_mix("q3_k")->name, "Q3_K_M");
  EXPECT_EQ(find_mix("Q5_K")->name, "Q5_K_M");
  EXPECT_EQ(find_mix("Q4"), nullptr);
  EXPECT_EQ(find_mix("Q4_K_M")->file_type, 15u);
  EXPECT_EQ(find_mix("BF16")->file_type, 32u);
}

}  // namespace
}  // namespace shoehorn::quant
