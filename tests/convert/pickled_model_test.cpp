// Pruned models that were pickled as objects, from the file to a GGUF.
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

#include "convert/gguf_output.h"
#include "convert/opened_checkpoint.h"
#include "models/gguf_hparams.h"
#include "models/hf_config.h"
#include "support/pickled_checkpoint.h"

namespace shoehorn::convert {
namespace {

namespace fs = std::filesystem;
using test::as_object;
using test::pruned_checkpoint;
using test::write_object;

Expected<OpenedCheckpoint> open(const std::string& directory) {
  NoProgress progress;
  return open_checkpoint(directory, progress);
}

/// Converts both to F32 and compares tensor by tensor, and what the metadata say of the layers.
void expect_same_gguf(const std::string& in_a, const std::string& in_b) {
  NoProgress progress;
  std::vector<io::GgufFile> files;
  for (const std::string& in : {in_a, in_b}) {
    ASSERT_EXPECTED(const auto source, ModelSource::open(in, progress));
    const std::string out = test::temp_dir() + "/out.gguf";
    const auto written = write_gguf(source, out, {.mix = quant::find_mix("F32")}, progress);
    ASSERT_TRUE(written.has_value()) << written.error().message;
    ASSERT_EXPECTED(auto file, io::GgufFile::open(out));
    files.push_back(std::move(file));
  }
  const io::GgufFile &a = files[0], &b = files[1];
  ASSERT_EQ(a.tensors().size(), b.tensors().size());
  for (const io::GgufTensor& tensor : a.tensors()) {
    const io::GgufTensor* other = b.find(tensor.name);
    ASSERT_NE(other, nullptr) << tensor.name;
    EXPECT_EQ(tensor.shape, other->shape) << tensor.name;
    ASSERT_EQ(tensor.data.size(), other->data.size());
    EXPECT_EQ(std::memcmp(tensor.data.data(), other->data.data(), tensor.data.size()), 0) << tensor.name;
  }
  const auto model_a = models::read_gguf_model(a), model_b = models::read_gguf_model(b);
  ASSERT_TRUE(model_a.has_value() && model_b.has_value());
  EXPECT_EQ(model_a->architecture, model_b->architecture);
  EXPECT_EQ(model_a->hparams.layers, model_b->hparams.layers);
  EXPECT_EQ(model_a->hparams.head_dim, model_b->hparams.head_dim);
  EXPECT_EQ(model_a->hparams.norm_eps, model_b->hparams.norm_eps);
  EXPECT_EQ(model_a->hparams.rope_theta, model_b->hparams.rope_theta);
  EXPECT_EQ(model_a->hparams.n_ctx_train, model_b->hparams.n_ctx_train);
}

TEST(PickledModel, GivesTheGgufOfTheSameWeightsInSafetensors) {
  const auto checkpoint = pruned_checkpoint();
  const test::ModelFixture fixture = as_object(checkpoint);
  const std::string directory = write_object(fixture, checkpoint);
  expect_same_gguf(checkpoint.directory, directory);
  // A config.json of before pruning says no more of the layers than the object does.
  test::write_text(directory + "/config.json", test::tiny_config().dump());
  expect_same_gguf(checkpoint.directory, directory);
}

TEST(PickledModel, IsReadBesideHostileCallsWithoutMakingThem) {
  const auto checkpoint = pruned_checkpoint();
  test::ModelFixture fixture = as_object(checkpoint);
  const std::string trace = test::temp_dir() + "/pickle-was-here";
  const auto attack = [&](test::PickleWriter& p) {
    p.text("x").global("posix", "system").op("(").text("touch " + trace).op("tR");
  };
  fixture.beside = fixture.attributes = attack;
  const std::string directory = write_object(fixture, checkpoint);
  expect_same_gguf(checkpoint.directory, directory);
  EXPECT_FALSE(fs::exists(trace));
  ASSERT_EXPECTED(const auto opened, open(directory));
  const auto& dropped = opened.weights->dropped();
  EXPECT_EQ(std::count(dropped.begin(), dropped.end(), "x (a call of posix.system, not made)"), 2);
}

TEST(PickledModel, ConfigurationIsWhatAConfigJsonOfThePrunedModelSays) {
  const auto checkpoint = pruned_checkpoint();
  ASSERT_EXPECTED(const auto jagged, open(write_object(as_object(checkpoint), checkpoint)));
  for (const char* key : {"intermediate_size", "num_attention_heads", "num_key_value_heads", "head_dim", "hidden_size", "rms_norm_eps",
                          "num_hidden_layers", "vocab_size", "architectures", "rope_theta", "tie_word_embeddings"}) {
    EXPECT_EQ(jagged.config_json[key], checkpoint.config[key]) << key;
  }
  EXPECT_EQ(jagged.config_json["torch_dtype"], "float16");
  const auto reparsed = models::parse_model_config(Json::parse(jagged.config_json.dump()));
  ASSERT_TRUE(reparsed.has_value()) << reparsed.error().message;
  EXPECT_EQ(reparsed->hparams.layers, jagged.config.hparams.layers);

  // Layers of one shape are said by numbers.
  Json config = test::tiny_config();
  config["intermediate_size"] = 64;
  config["num_attention_heads"] = 2;
  config["num_key_value_heads"] = 1;
  const auto narrower = test::make_tiny_checkpoint(config);
  ASSERT_EXPECTED(const auto uniform, open(write_object(as_object(narrower), narrower)));
  EXPECT_EQ(uniform.config_json["num_attention_heads"], 2);
  EXPECT_EQ(uniform.config_json["intermediate_size"], 64);
  EXPECT_STREQ(uniform.config.architecture->name, "llama");
  // That of an ordinary checkpoint is its config.json.
  ASSERT_EXPECTED(const auto plain, open(checkpoint.directory));
  EXPECT_EQ(plain.config_json, checkpoint.config);
}

TEST(PickledModel, TheObjectsClassStandsInForAnUnknownArchitecture) {
  const auto checkpoint = pruned_checkpoint();
  test::ModelFixture fixture = as_object(checkpoint);
  fixture.config["architectures"] = nullptr;
  ASSERT_EXPECTED(const auto unstated, open(write_object(fixture, checkpoint)));
  EXPECT_EQ(unstated.config_json["architectures"], Json::array({"LlamaForCausalLM"}));
  fixture.config["architectures"] = {"LLaMAForCausalLM"};
  EXPECT_TRUE(open(write_object(fixture, checkpoint)).has_value());
}

TEST(PickledModel, DroppedLayersAndPrunedChannelsAreSeen) {
  // The configuration knows of 3 layers and, being adjusted, of 32 channels; the heads' size is in the modules only.
  Json config = test::tiny_config();
  config["hidden_size"] = 32;
  config["num_hidden_layers"] = 2;
  const auto checkpoint = test::make_tiny_checkpoint(config);
  test::ModelFixture fixture = as_object(checkpoint);
  fixture.config["hidden_size"] = 32;
  fixture.head_dim = 16;
  ASSERT_EXPECTED(const auto opened, open(write_object(fixture, checkpoint)));
  EXPECT_EQ(opened.config.hparams.n_layer, 2u);
  EXPECT_EQ(opened.config.hparams.n_embd, 32u);
  EXPECT_EQ(opened.config.hparams.head_dim, 16u);
  EXPECT_EQ(opened.config.hparams.layers[0].n_head, 4u);
}

TEST(PickledModel, WhatDoesNotFitIsSaid) {
  const auto checkpoint = pruned_checkpoint();
  const auto expect_failure = [&](const test::ModelFixture& fixture, const std::string& part) {
    const auto opened = open(write_object(fixture, checkpoint));
    ASSERT_FALSE(opened.has_value());
    EXPECT_NE(opened.error().message.find(part), std::string::npos) << opened.error().message;
  };
  test::ModelFixture fixture = as_object(checkpoint);
  fixture.config["head_dim"] = 24;
  expect_failure(fixture, "model.layers.0.self_attn.q_proj.weight has 64 rows, which are no whole heads of 24");
  fixture = as_object(checkpoint);
  fixture.config.erase("num_attention_heads");
  expect_failure(fixture, "head_dim is missing");
  fixture = as_object(checkpoint);
  fixture.config["architectures"] = {"GPT2LMHeadModel"};
  fixture.weights.erase("model.layers.1.mlp.up_proj.weight");
  expect_failure(fixture, "model.layers.1.mlp.up_proj.weight is missing");
  fixture = as_object(checkpoint);
  fixture.config["rms_norm_eps"] = "small";
  expect_failure(fixture, "the pickled model's configuration: rms_norm_eps");
  fixture = as_object(checkpoint);
  fixture.config["quantization_config"] = {{"quant_method", "aqlm"}};
  expect_failure(fixture, "already quantized (aqlm)");

  const std::string bare = test::temp_dir();
  test::write_text(bare + "/pytorch_model.bin", test::model_file(as_object(checkpoint)).zip());
  NoProgress progress;
  const auto without_tokenizer = ModelSource::open(bare, progress);
  ASSERT_FALSE(without_tokenizer.has_value());
  EXPECT_NE(without_tokenizer.error().message.find("no tokenizer.json, tokenizer.model or vocab.json"), std::string::npos);
}

TEST(PickledModel, DamageNeverCrashes) {
  const auto checkpoint = pruned_checkpoint();
  const test::ModelFile whole = test::model_file(as_object(checkpoint));
  const std::string directory = write_object(whole, checkpoint);
  std::mt19937 rng(8);
  int readable = 0;
  constexpr int kRounds = 1000;
  for (int i = 0; i < kRounds; ++i) {
    test::ModelFile damaged = whole;
    damaged.pickle = test::flip_bits(whole.pickle, rng);
    test::write_text(directory + "/pytorch_model.bin", damaged.zip());
    readable += open(directory).has_value() ? 1 : 0;
  }
  EXPECT_GT(readable, 0);
  EXPECT_LT(readable, kRounds);
}

}  // namespace
}  // namespace shoehorn::convert
