// Healing: what is trained, what is written, and that an interruption changes nothing.
#include "compress/heal/heal.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "compress/heal/adapter_files.h"
#include "compress/heal/training_data.h"
#include "compress/calibration_text.h"
#include "compress/losses.h"
#include "compress/prune/prune.h"
#include "io/gguf.h"
#include "support/pickled_checkpoint.h"
#include "support/resume.h"
#include "support/support.h"
#include "support/tiny_checkpoint.h"

namespace shoehorn::compress {
namespace {

namespace fs = std::filesystem;
using test::contents;
using test::StopsAfter;

std::string fable() { return test::source_dir() + "/models/fable-10m"; }

std::string some_text() {
  std::string text;
  for (int i = 0; i < 6000; ++i) text += static_cast<char>('a' + (i * 7 + i / 5 * 3) % 26);
  return text;
}

HealOptions tiny_options(const std::string& model) {
  const std::string dir = test::temp_dir();
  test::write_text(dir + "/data.txt", some_text());
  HealOptions options;
  options.model = model;
  options.out = dir + "/out";
  options.data = dir + "/data.txt";
  options.lora.targets = *parse_projections({"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"});
  options.adamw.lr = 5e-3;
  options.adamw.warmup = 2;
  options.batch = 8;
  options.micro_batch = 3;
  options.cutoff = 32;
  options.max_steps = 12;
  options.validate_every = 4;
  options.compute_dtype = "f32";
  options.n_threads = 1;
  return options;
}

HealReport healed(const HealOptions& options) {
  NoProgress progress;
  auto report = heal(options, progress);
  EXPECT_TRUE(report.has_value()) << report.error().message;
  return report ? std::move(*report) : HealReport{};
}

std::string refused(const HealOptions& options) {
  NoProgress progress;
  const auto report = heal(options, progress);
  EXPECT_FALSE(report.has_value());
  return report ? "" : report.error().message;
}

TEST(Heal, LearnsAndKeepsTheBestAdapter) {
  const auto checkpoint = test::make_tiny_checkpoint(test::tiny_config());
  const HealReport report = healed(tiny_options(checkpoint.directory));
  EXPECT_EQ(report.steps, 12);
  EXPECT_LT(report.losses.back(), report.losses.front());
  EXPECT_LT(report.validation_after, report.validation_before - 0.1);
  EXPECT_GT(report.best_step, 0);
  EXPECT_LT(report.rounding_kl, 1e-6) << "f32 weights";
}

TEST(Heal, ATeacherIsApproached) {
  const auto checkpoint = test::make_tiny_checkpoint(test::tiny_config());
  HealOptions options = tiny_options(checkpoint.directory);
  const auto other = test::make_tiny_checkpoint(test::tiny_config(), 2);
  options.teacher = other.directory;
  const HealReport report = healed(options);
  EXPECT_LT(report.validation_after, report.validation_before);
  options.teacher = checkpoint.directory;
  options.out += "2";
  options.max_steps = 1;
  EXPECT_LT(healed(options).losses[0], 1e-5) << "a model does not differ from itself";
}

TEST(Heal, TheTeachersCacheChangesNothing) {
  const auto checkpoint = test::make_tiny_checkpoint(test::tiny_config()), other = test::make_tiny_checkpoint(test::tiny_config(), 2);
  HealOptions options = tiny_options(checkpoint.directory);
  options.teacher = other.directory;
  options.max_steps = 0;
  options.batch = 64;
  options.epochs = 3;
  healed(options);
  const auto expected = contents(options.out);
  fs::remove_all(options.out);
  options.teacher_cache = true;
  healed(options);
  EXPECT_TRUE(contents(options.out) == expected);
}

TEST(Heal, TrainsAWholeProjection) {
  const auto checkpoint = test::make_tiny_checkpoint(test::tiny_config());
  HealOptions options = tiny_options(checkpoint.directory);
  options.lora.full = *parse_projections({"down_proj"});
  options.lora.targets.clear();
  options.adamw.lr = 1e-3;
  const HealReport report = healed(options);
  EXPECT_EQ(report.parameters, 3 * 64 * 96);
  EXPECT_LT(report.validation_after, report.validation_before);
  NoProgress progress;
  const Compute compute{at::kCPU, at::kFloat};
  BlockLoader base(*convert::open_checkpoint(checkpoint.directory, progress), compute, false);
  BlockLoader merged(*convert::open_checkpoint(options.out, progress), compute, false);
  EXPECT_TRUE(at::equal(base.stored(1, models::Role::kAttnQ), merged.stored(1, models::Role::kAttnQ)));
  EXPECT_FALSE(at::equal(base.stored(1, models::Role::kFfnDown), merged.stored(1, models::Role::kFfnDown)));
}

TEST(Heal, SomebodysAdapterIsMerged) {
  const auto checkpoint = test::make_tiny_checkpoint(test::tiny_config());
  HealOptions options = tiny_options(checkpoint.directory);
  healed(options);
  NoProgress progress;
  const std::string out = options.out + "-merged", gguf = options.out + ".gguf";
  const Status merged = merge_adapter({checkpoint.directory, options.out + "/adapter", out, gguf, "", 1}, progress);
  // What is there came of other options: it is not taken for the result of these.
  const Status other = merge_adapter({checkpoint.directory, options.out + "/adapter", out, "", "f32", 1}, progress);
  ASSERT_FALSE(other.has_value());
  EXPECT_NE(other.error().message.find("exists already"), std::string::npos) << other.error().message;
  ASSERT_TRUE(merged.has_value()) << merged.error().message;
  EXPECT_TRUE(test::read_bytes(out + "/model.safetensors") == test::read_bytes(options.out + "/model.safetensors"));
  EXPECT_TRUE(test::read_bytes(gguf) == test::read_bytes(options.out + "/adapter/adapter.gguf"));
}

TEST(Heal, GradientsDoNotDependOnMicroBatches) {
  const auto checkpoint = test::make_tiny_checkpoint(test::tiny_config());
  HealOptions options = tiny_options(checkpoint.directory);
  const auto one = healed(options).losses;
  options.out += "2";
  options.micro_batch = 8;
  const auto other = healed(options).losses;
  ASSERT_EQ(one.size(), other.size());
  for (size_t i = 0; i < one.size(); ++i) EXPECT_NEAR(one[i], other[i], 1e-4 * one[i]);
}

TEST(Heal, CountsTheTrainableParameters) {
  // r (n_in + n_out) for each projection.
  const auto checkpoint = test::make_tiny_checkpoint(test::tiny_config());
  HealOptions options = tiny_options(checkpoint.directory);
  options.max_steps = 1;
  EXPECT_EQ(healed(options).parameters, 3 * 8 * ((64 + 64) + (64 + 32) + (64 + 32) + (64 + 64) + 3 * (64 + 96)));
}

TEST(Heal, LossesAndGradientsOfTheHead) {
  const auto checkpoint = test::make_tiny_checkpoint(test::tiny_config());
  NoProgress progress;
  BlockLoader loader(*convert::open_checkpoint(checkpoint.directory, progress), {at::kCPU, at::kDouble}, true);
  const TorchModel model(loader.hparams(), {at::kCPU, at::kDouble});
  const TensorSet head = loader.head();
  const at::Tensor x = at::randn({2, 5, 64}, at::kDouble), y = at::randn({2, 5, 64}, at::kDouble);
  at::Tensor targets = at::randint(0, 300, {2, 5}, at::kLong);
  targets[0][1] = kIgnored;
  targets[1][4] = kIgnored;
  const Loss ce = cross_entropy({&model, &head, x}, targets, true);
  const Loss kl = kl_divergence({&model, &head, x}, {&model, &head, y}, targets, true);
  EXPECT_EQ(ce.count, 8);
  const at::Tensor nudge = at::randn_like(x);
  const double step = 1e-5;
  const auto sum = [&](bool teacher, double s) {
    const HeadInput input{&model, &head, x + s * nudge};
    return (teacher ? kl_divergence(input, {&model, &head, y}, targets, false) : cross_entropy(input, targets, false)).sum;
  };
  EXPECT_NEAR((sum(false, step) - sum(false, -step)) / (2 * step), (ce.gradient * nudge).sum().item<double>(), 1e-5);
  EXPECT_NEAR((sum(true, step) - sum(true, -step)) / (2 * step), (kl.gradient * nudge).sum().item<double>(), 1e-5);
  EXPECT_EQ(ce.gradient[0][1].abs().max().item<double>(), 0);
}

TEST(Heal, AdapterFilesSayWhatTheMergedWeightsHold) {
  const auto checkpoint = test::make_tiny_checkpoint(test::tiny_config());
  HealOptions options = tiny_options(checkpoint.directory);
  options.lora.targets = *parse_projections({"k_proj", "down_proj"});
  healed(options);
  NoProgress progress;
  const Compute compute{at::kCPU, at::kFloat};
  BlockLoader base(*convert::open_checkpoint(checkpoint.directory, progress), compute, false);
  BlockLoader merged(*convert::open_checkpoint(options.out, progress), compute, false);
  const auto adapter = read_peft(options.out + "/adapter", base, compute);
  ASSERT_TRUE(adapter.has_value()) << adapter.error().message;
  auto gguf = io::GgufFile::open(options.out + "/adapter/adapter.gguf");
  ASSERT_TRUE(gguf.has_value()) << gguf.error().message;
  EXPECT_EQ(*gguf->metadata().get_string("general.architecture"), "llama");
  for (int layer = 0; layer < 3; ++layer) {
    for (const models::Role role : {models::Role::kAttnQ, models::Role::kAttnK, models::Role::kFfnDown}) {
      const at::Tensor before = base.stored(layer, role), after = merged.stored(layer, role);
      EXPECT_LT((adapter->merged(layer, role, before) - after).abs().max().item<float>(), 1e-6);
      EXPECT_EQ(at::equal(before, after), role == models::Role::kAttnQ);
    }
    // k's rows are interleaved in the GGUF, lora_b's with them.
    const auto* b = gguf->find(fmt::format("blk.{}.attn_k.weight.lora_b", layer));
    ASSERT_NE(b, nullptr);
    EXPECT_EQ(b->shape, (std::vector<uint64_t>{8, 32}));
    const auto* values = reinterpret_cast<const float*>(b->data.data());
    const at::Tensor hf = adapter->pairs().at({layer, models::Role::kAttnK}).b;
    EXPECT_EQ(values[8 * 1], hf[8][0].item<float>());   // row 1 is the partner of row 0: i + 8
    EXPECT_EQ(values[8 * 18], hf[17][0].item<float>());
  }
}

TEST(Heal, RefusesAdaptersThatDoNotFit) {
  const auto checkpoint = test::make_tiny_checkpoint(test::tiny_config());
  HealOptions options = tiny_options(checkpoint.directory);
  options.max_steps = 1;
  healed(options);
  Json config = test::tiny_config();
  config["intermediate_size"] = 64;
  const auto narrower = test::make_tiny_checkpoint(config);
  NoProgress progress;
  const Compute compute{at::kCPU, at::kFloat};
  BlockLoader loader(*convert::open_checkpoint(narrower.directory, progress), compute, false);
  const auto adapter = read_peft(options.out + "/adapter", loader, compute);
  ASSERT_FALSE(adapter.has_value());
  EXPECT_NE(adapter.error().message.find("shape"), std::string::npos);
  const std::string path = options.out + "/adapter/adapter_config.json";
  Json peft = Json::parse(test::read_text(path));
  peft["use_dora"] = true;
  test::write_text(path, peft.dump());
  EXPECT_NE(read_peft(options.out + "/adapter", loader, compute).error().message.find("use_dora"), std::string::npos);
}

TEST(Heal, ResumesToTheSameBytes) {
  const auto checkpoint = test::make_tiny_checkpoint(test::tiny_config());
  HealOptions options = tiny_options(checkpoint.directory);
  options.lora.dropout = 0.1;
  options.save_seconds = 0;
  const HealReport whole = healed(options);
  const auto expected = contents(options.out);
  fs::remove_all(options.out);
  int stops = 0;
  for (; stops < 100; ++stops) {
    StopsAfter progress(23 + 4 * stops);
    options.resume = stops > 0;
    const auto report = heal(options, progress);
    if (report) break;
    ASSERT_EQ(report.error().code, ErrorCode::kCancelled) << report.error().message;
    ASSERT_FALSE(fs::exists(options.out));
  }
  EXPECT_GE(stops, 3);
  EXPECT_LT(stops, 100);
  EXPECT_TRUE(contents(options.out) == expected);
  NoProgress progress;
  const auto again = heal(options, progress);
  ASSERT_TRUE(again.has_value()) << again.error().message;
  EXPECT_EQ(again->json(), whole.json());
}

TEST(Heal, PickledModelsArePrunedAndHealedLikeTheirSafetensors) {
  const auto checkpoint = test::pruned_checkpoint();
  const std::string pickled = test::write_object(test::as_object(checkpoint), checkpoint);
  HealOptions options = tiny_options(checkpoint.directory), from_object = tiny_options(pickled);
  options.max_steps = from_object.max_steps = 3;
  options.result_dtype = from_object.result_dtype = "f32";
  EXPECT_EQ(healed(options).losses, healed(from_object).losses);
  EXPECT_TRUE(contents(options.out)["model.safetensors"] == contents(from_object.out)["model.safetensors"]);

  PruneOptions prune_options;
  prune_options.method = "magnitude";
  prune_options.multiple_of = 16;
  prune_options.ratio = 0.5;
  NoProgress progress;
  std::map<std::string, std::vector<std::byte>> pruned[2];
  for (const std::string& model : {checkpoint.directory, pickled}) {
    prune_options.model = model;
    prune_options.out = test::temp_dir() + "/pruned";
    const auto report = prune(prune_options, progress);
    ASSERT_TRUE(report.has_value()) << report.error().message;
    pruned[model == pickled] = contents(prune_options.out);
  }
  EXPECT_TRUE(pruned[0]["model.safetensors"] == pruned[1]["model.safetensors"]);
}

TEST(Heal, BadDataIsNamed) {
  const auto checkpoint = test::make_tiny_checkpoint(test::tiny_config());
  HealOptions options = tiny_options(checkpoint.directory);
  options.data = test::temp_dir() + "/data.jsonl";
  test::write_text(options.data, "{\"instruction\": \"a\", \"output\": \"b\"}\n{\"instruction\": 3}\n");
  EXPECT_NE(refused(options).find("data.jsonl:2"), std::string::npos);
  test::write_text(options.data, "");
  EXPECT_NE(refused(options).find("nothing to learn"), std::string::npos);
  options.data = test::temp_dir() + "/data.json";
  test::write_text(options.data, "[{\"instruction\": \"a\", \"output\": \"b\"}, 7]");
  EXPECT_NE(refused(options).find("entry 1"), std::string::npos);
  options = tiny_options(checkpoint.directory);
  options.adamw.lr = 1e30;
  options.adamw.warmup = 0;
  options.adamw.clip = 0;
  EXPECT_NE(refused(options).find("step "), std::string::npos);
  options = tiny_options(checkpoint.directory);
  options.ram = 1 << 20;
  EXPECT_NE(refused(options).find("--ram"), std::string::npos);
}

TEST(TrainingData, AlpacaExamplesLearnTheResponseOnly) {
  const auto tokenizer = directory_tokenizer(fable(), 4096);
  ASSERT_TRUE(tokenizer.has_value());
  const std::string path = test::temp_dir() + "/data.json";
  test::write_text(path, R"([{"instruction": "Say hello.", "input": "", "output": "Hello there."},
                             {"instruction": "Repeat.", "input": "A word", "output": "A word"}])");
  const auto examples = read_examples(path, *tokenizer, 256);
  ASSERT_TRUE(examples.has_value()) << examples.error().message;
  ASSERT_EQ(examples->size(), 2u);
  const Example& first = (*examples)[0];
  std::vector<tokenizer::Token> learned;
  for (size_t t = first.first_target; t < first.ids.size(); ++t) learned.push_back(static_cast<tokenizer::Token>(first.ids[t]));
  ASSERT_FALSE(learned.empty());
  EXPECT_EQ(learned.back(), *tokenizer->vocab().eos);
  learned.pop_back();
  EXPECT_EQ(tokenizer->decode(learned), "Hello there.");
  EXPECT_NE(alpaca_prompt("a", "b").find("### Input:\nb\n"), std::string::npos);
  const Batch batch = make_batch({&(*examples)[0], &(*examples)[1]}, 0);
  EXPECT_EQ(batch.targets[0].ne(kIgnored).sum().item<int64_t>(), static_cast<int64_t>(first.ids.size() - first.first_target));
  // Too short for the response: nothing to learn.
  EXPECT_FALSE(read_examples(path, *tokenizer, 16).has_value());
}

TEST(AdamW, SchedulesAndOneStepByHand) {
  AdamWSettings settings;
  settings.lr = 1;
  settings.warmup = 10;
  EXPECT_DOUBLE_EQ(learning_rate(settings, 0, 110), 0.1);
  EXPECT_DOUBLE_EQ(learning_rate(settings, 9, 110), 1);
  EXPECT_DOUBLE_EQ(learning_rate(settings, 60, 110), 0.5);
  settings.schedule = "cosine";
  EXPECT_NEAR(learning_rate(settings, 60, 110), 0.5, 1e-12);
  EXPECT_NEAR(learning_rate(settings, 110, 110), 0, 1e-12);
  settings = {};
  settings.lr = 0.1;
  settings.warmup = 0;
  settings.schedule = "constant";
  settings.weight_decay = 0.5;
  settings.clip = 1;
  const at::Tensor parameter = at::full({1}, 2.0, at::kDouble);
  AdamW optimizer({parameter}, settings);
  EXPECT_DOUBLE_EQ(optimizer.step({at::full({1}, 4.0, at::kDouble)}, 0, 10), 4);
  // Decay to 2 (1 - 0.05) = 1.9; the first step of Adam has length lr whatever the gradient.
  EXPECT_NEAR(parameter.item<double>(), 1.8, 1e-6);

  settings.weight_decay = 0;
  const at::Tensor slow = at::full({1}, 2.0, at::kDouble), fast = slow.clone();
  AdamW both({slow, fast}, settings, {1, 10});
  both.step({at::full({1}, 0.1, at::kDouble), at::full({1}, 0.1, at::kDouble)}, 0, 10);
  EXPECT_NEAR(slow.item<double>(), 1.9, 1e-6);
  EXPECT_NEAR(fast.item<double>(), 1, 1e-6);
}

}  // namespace
}  // namespace shoehorn::compress
