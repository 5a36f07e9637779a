#include "fit/plan.h"

#include <filesystem>

#include "convert/gguf_output.h"
#include "fit/speed.h"
#include "support/support.h"

namespace shoehorn::fit {
namespace {

constexpr const char* kLlama8b =
    R"({"architectures":["LlamaForCausalLM"],"hidden_size":4096,"intermediate_size":14336,"num_attention_heads":32,
  "num_hidden_layers":32,"num_key_value_heads":8,"max_position_embeddings":131072,"rms_norm_eps":1e-5,"rope_theta":500000.0,"tie_word_embeddings":false,
  "rope_scaling":{"factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":8192,"rope_type":"llama3"},
  "model_type":"llama","vocab_size":128256})";

ModelFacts llama8b() {
  const std::string dir = test::temp_dir() + "/Llama-3.1-8B";
  std::filesystem::create_directory(dir);
  test::write_text(dir + "/config.json", kLlama8b);
  auto facts = read_model_facts(dir);
  EXPECT_TRUE(facts.has_value()) << facts.error().message;
  return *facts;
}

const quant::Mix& mix(const char* name) { return *quant::find_mix(name); }

Choice choice_of(const ModelFacts& model, const char* type, double width, const PlanOptions& options = {}) {
  auto choice = evaluate_choice(model, *find_device("rpi5-8g"), options, mix(type), width);
  EXPECT_TRUE(choice.has_value()) << choice.error().message;
  return *choice;
}

TEST(Plan, TheStudysModelHasThePublishedSizes) {
  const ModelFacts model = llama8b();
  EXPECT_EQ(choice_of(model, "F16", 1).parameters, 8030261248u);
  // MLP 14336 -> 10752 in layers 4 to 27.
  const Choice pruned = choice_of(model, "F16", 0.75);
  EXPECT_EQ(pruned.parameters, 6973296640u);
  constexpr double kGib = 1 << 30;
  const auto near = [&](const char* type, double gib) {
    EXPECT_NEAR(static_cast<double>(choice_of(model, type, 0.75).tensor_bytes) / kGib / gib, 1, 0.0005) << type;
  };
  near("F16", 12.99);
  near("Q4_K_M", 3.9936);
  near("Q3_K_M", 3.2691);
}

TEST(Plan, FilesAreAsLargeAsTheyBecome) {
  const std::string model = test::source_dir() + "/models/fable-10m";
  ASSERT_EXPECTED(const ModelFacts facts, read_model_facts(model));
  EXPECT_TRUE(facts.has_tokenizer);
  NoProgress progress;
  ASSERT_EXPECTED(const auto source, convert::ModelSource::open(model, progress));
  for (const char* type : {"F16", "Q4_K_M", "Q2_K"}) {
    const std::string path = test::temp_dir() + "/" + type + ".gguf";
    ASSERT_EXPECTED(const auto report, convert::write_gguf(source, path, {.mix = &mix(type)}, progress));
    // The name of the run's folder may differ.
    EXPECT_NEAR(static_cast<double>(choice_of(facts, type, 1).file_bytes), static_cast<double>(report.file_bytes), 512)
        << type;
    // The same from the file's header.
    ASSERT_EXPECTED(const ModelFacts from_file, read_model_facts(path));
    EXPECT_NEAR(static_cast<double>(choice_of(from_file, type, 1).file_bytes), static_cast<double>(report.file_bytes),
                512)
        << type;
  }
}

TEST(Plan, ARooflineIsBytesOverBandwidth) {
  Device device = *find_device("rpi5-8g");
  const ModelFacts model = llama8b();
  PlanOptions options;
  options.n_prompt = 512;
  const Choice choice = *evaluate_choice(model, device, options, mix("Q8_0"), 1);
  // 8.03e9 weights less the embedding at 8.5 bits, and the keys and values of some 576 positions.
  const double bytes = (8030261248.0 - 128256.0 * 4096) * 8.5 / 8 + 576.0 * 32 * 2 * 8 * 128 * 2;
  EXPECT_NEAR(choice.tokens_per_s * bytes / device.read, 1, 0.005);
  const double macs = 512 * (8030261248.0 - 2.0 * 128256 * 4096);
  EXPECT_NEAR(choice.ttft_s * device.macs / macs, 1, 0.1);
  device.read *= 2;
  EXPECT_NEAR(evaluate_choice(model, device, options, mix("Q8_0"), 1)->tokens_per_s / choice.tokens_per_s, 2, 1e-9);
}

TEST(Plan, RecommendsTheMostBitsThatFit) {
  const ModelFacts model = llama8b();
  const Device pi = *find_device("rpi4-8g");
  ASSERT_EXPECTED(const Plan plan, make_plan(model, pi, {}));
  ASSERT_TRUE(plan.recommended.has_value());
  const Choice& best = plan.choices[*plan.recommended];
  EXPECT_EQ(best.width, 1);
  EXPECT_LE(best.ram_bytes, pi.usable_ram());
  for (const Choice& other : plan.choices) {
    EXPECT_EQ(other.fits, other.ram_bytes <= pi.usable_ram());
    if (other.fits && other.width == 1 && quant::format(other.mix->base).quantized) {
      EXPECT_LE(other.bits_per_weight(), best.bits_per_weight());
    }
    EXPECT_TRUE(!other.published_loss || other.width == 1);
  }
}

TEST(Plan, PrunesOnlyForSpeed) {
  const ModelFacts model = llama8b();
  const Device pi = *find_device("rpi5-8g");
  PlanOptions options;
  options.max_ttft_s = 0.95 * choice_of(model, "Q4_K_M", 1).ttft_s;
  ASSERT_EXPECTED(const Plan plan, make_plan(model, pi, options));
  ASSERT_TRUE(plan.recommended.has_value());
  EXPECT_LT(plan.choices[*plan.recommended].width, 1);
  EXPECT_NE(plan.reason.find("too slow"), std::string::npos) << plan.reason;
  options.min_tokens_per_s = 1e6;
  ASSERT_EXPECTED(const Plan none, make_plan(model, pi, options));
  EXPECT_FALSE(none.recommended.has_value());
  EXPECT_NE(none.reason.find("--min-tps"), std::string::npos);
  ASSERT_EXPECTED(const Plan small, make_plan(model, pi, {.ram = 1 << 20}));
  EXPECT_FALSE(small.recommended.has_value());
}

TEST(Plan, AContextTakesMemory) {
  const ModelFacts model = llama8b();
  const uint64_t few = choice_of(model, "Q4_K_M", 1, {.n_ctx = 4096}).ram_bytes,
                 many = choice_of(model, "Q4_K_M", 1, {.n_ctx = 8192}).ram_bytes;
  EXPECT_EQ(many - few, 4096u * 32 * 2 * 8 * 128 * 2);
}

TEST(Plan, ModelsThatNobodyReadsPrunedAreNotPruned) {
  ModelFacts model = llama8b();
  model.architecture = models::find_architecture("qwen3");
  ASSERT_EXPECTED(const Plan plan, make_plan(model, *find_device("generic"), {}));
  for (const Choice& choice : plan.choices) EXPECT_EQ(choice.width, 1);
}

}  // namespace
}  // namespace shoehorn::fit
