#include <sys/wait.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <set>

#include "base/json.h"
#include "io/checkpoint.h"
#include "io_support.h"

namespace shoehorn::io {
namespace {
namespace fs = std::filesystem;

struct Outcome {
  int exit_code;
  std::string out;
};

Outcome make_checkpoint(const std::string& arguments) {
  const std::string command = std::string(SHOEHORN_MAKE_CHECKPOINT) + " " + arguments + " 2>&1";
  FILE* pipe = popen(command.c_str(), "r");
  Outcome run{-1, ""};
  if (pipe == nullptr) return run;
  char buffer[4096];
  for (size_t n; (n = fread(buffer, 1, sizeof buffer, pipe)) > 0;) run.out.append(buffer, n);
  run.exit_code = WEXITSTATUS(pclose(pipe));
  return run;
}

Json config_of(const std::string& dir) { return read_json(dir + "/config.json").value_or(Json()); }

std::vector<float> values(const CheckpointTensor& tensor) {
  std::vector<float> out(tensor.n_elements());
  read_floats(tensor, 0, out.size(), out.data());
  return out;
}

TEST(MakeCheckpoint, PresetsHaveThePublishedNumberOfParameters) {
  const std::pair<const char*, uint64_t> expected[] = {
      {"llama-3.1-8b", 8'030'261'248},
      {"llama-3.2-1b", 1'235'814'400},
      {"llama-3.2-3b", 3'212'749'824},
      {"llama-2-7b", 6'738'415'616},
      {"mistral-7b", 7'248'023'552},
      {"qwen2-0.5b", 494'032'768},
      {"qwen3-0.6b", 596'049'920},
      // "LLM Compression and Deployment on Raspberry Pi 4": layers 4..27 at 10752.
      {"llama-3.1-8b --jagged", 6'973'296'640}};
  for (const auto& [name, parameters] : expected) {
    const Outcome run = make_checkpoint(std::string("--plan --like ") + name);
    ASSERT_EQ(run.exit_code, 0) << run.out;
    ASSERT_EXPECTED(const Json plan, parse_json(run.out));
    EXPECT_EQ(plan["parameters"], parameters) << name;
  }
}

TEST(MakeCheckpoint, WritesACheckpointOfThePlannedShapes) {
  const std::string dir = test::temp_dir() + "/m";
  const Outcome run = make_checkpoint("--like tiny --layers 2 -o " + dir);
  ASSERT_EQ(run.exit_code, 0) << run.out;
  ASSERT_EXPECTED(const auto checkpoint, Checkpoint::open(dir));
  const std::pair<const char*, std::vector<uint64_t>> shapes[] = {
      {"model.embed_tokens.weight", {1024, 256}},
      {"model.layers.1.input_layernorm.weight", {256}},
      {"model.layers.1.self_attn.q_proj.weight", {256, 256}},
      {"model.layers.1.self_attn.k_proj.weight", {64, 256}},
      {"model.layers.1.self_attn.o_proj.weight", {256, 256}},
      {"model.layers.1.mlp.gate_proj.weight", {1024, 256}},
      {"model.layers.1.mlp.down_proj.weight", {256, 1024}},
      {"model.norm.weight", {256}},
      {"lm_head.weight", {1024, 256}},
  };
  EXPECT_EQ(checkpoint.tensors().size(), 2u * 9 + 3);
  for (const auto& [name, shape] : shapes) {
    ASSERT_NE(checkpoint.find(name), nullptr) << name;
    EXPECT_EQ(checkpoint.find(name)->shape, shape);
    EXPECT_EQ(checkpoint.find(name)->dtype, DType::BF16);
  }
  for (const char* file : {"generation_config.json", "tokenizer.json", "tokenizer_config.json"}) {
    EXPECT_TRUE(read_json(dir + "/" + file).has_value()) << file;
  }
}

TEST(MakeCheckpoint, WeightsAreNormalWithTheInitialScale) {
  for (const char* dtype : {"bf16", "f16", "f32"}) {
    const std::string dir = test::temp_dir() + "/m";
    ASSERT_EQ(make_checkpoint(std::string("--like tiny --dtype ") + dtype + " -o " + dir).exit_code, 0);
    ASSERT_EXPECTED(const auto checkpoint, Checkpoint::open(dir));
    const auto w = values(*checkpoint.find("model.layers.0.mlp.up_proj.weight"));
    double sum = 0, square = 0, fourth = 0;
    for (const float x : w) {
      sum += x;
      square += double{x} * x;
      fourth += std::pow(double{x}, 4);
    }
    const auto n = static_cast<double>(w.size());
    EXPECT_NEAR(sum / n, 0, 1e-3);
    EXPECT_NEAR(std::sqrt(square / n), 1 / std::sqrt(256.0), 1e-3);
    EXPECT_NEAR(fourth / n / std::pow(square / n, 2), 3.0, 0.1);
    for (const float x : values(*checkpoint.find("model.norm.weight"))) EXPECT_NEAR(x, 1, 0.3);
    // No two tensors alike.
    EXPECT_NE(w, values(*checkpoint.find("model.layers.0.mlp.gate_proj.weight")));
  }
}

TEST(MakeCheckpoint, TheSeedDecidesTheWeights) {
  const std::string dir = test::temp_dir();
  for (const char* run : {"a --seed 7", "b --seed 7", "c --seed 8"}) {
    ASSERT_EQ(make_checkpoint("--like tiny --layers 1 -o " + dir + "/" + run).exit_code, 0);
  }
  const auto weights = [&](const char* run) { return test::read_bytes(dir + "/" + run + "/model.safetensors"); };
  EXPECT_EQ(weights("a"), weights("b"));
  EXPECT_NE(weights("a"), weights("c"));
}

TEST(MakeCheckpoint, JaggedModelsCarryArraysAndMatchingShapes) {
  const std::string dir = test::temp_dir() + "/m";
  ASSERT_EQ(make_checkpoint("--like tiny --jagged full -o " + dir).exit_code, 0);
  const Json config = config_of(dir);
  EXPECT_EQ(config["intermediate_size"], Json::array({1024, 768, 768, 1024}));
  EXPECT_EQ(config["num_attention_heads"], Json::array({8, 8, 4, 8}));
  EXPECT_EQ(config["num_key_value_heads"], Json::array({2, 2, 1, 2}));
  EXPECT_EQ(config["head_dim"], 32);
  ASSERT_EXPECTED(const auto checkpoint, Checkpoint::open(dir));
  EXPECT_EQ(checkpoint.find("model.layers.1.mlp.down_proj.weight")->shape, (std::vector<uint64_t>{256, 768}));
  EXPECT_EQ(checkpoint.find("model.layers.2.self_attn.q_proj.weight")->shape, (std::vector<uint64_t>{128, 256}));
  EXPECT_EQ(checkpoint.find("model.layers.2.self_attn.v_proj.weight")->shape, (std::vector<uint64_t>{32, 256}));
  EXPECT_EQ(checkpoint.find("model.layers.2.self_attn.o_proj.weight")->shape, (std::vector<uint64_t>{256, 128}));
}

TEST(MakeCheckpoint, QwenHasItsBiasesAndNorms) {
  const std::string small = " --layers 1 --hidden 64 --ff 128 --heads 4 --kv-heads 2 --vocab 512 -o ";
  const std::string dir = test::temp_dir();
  ASSERT_EQ(make_checkpoint("--like qwen2-0.5b" + small + dir + "/2").exit_code, 0);
  ASSERT_EQ(make_checkpoint("--like qwen3-0.6b" + small + dir + "/3").exit_code, 0);
  ASSERT_EXPECTED(const auto qwen2, Checkpoint::open(dir + "/2"));
  ASSERT_EXPECTED(const auto qwen3, Checkpoint::open(dir + "/3"));
  EXPECT_EQ(qwen2.find("model.layers.0.self_attn.k_proj.bias")->shape, std::vector<uint64_t>{32});
  EXPECT_EQ(qwen3.find("model.layers.0.self_attn.q_norm.weight")->shape, std::vector<uint64_t>{16});
  EXPECT_EQ(qwen2.find("lm_head.weight"), nullptr) << "tied";
  EXPECT_EQ(config_of(dir + "/2")["model_type"], "qwen2");
}

/// Every merge joins two tokens into a third, and ids run without a gap.
void check_tokenizer(const std::string& dir) {
  ASSERT_EXPECTED(const Json tokenizer, read_json(dir + "/tokenizer.json"));
  const Json& vocab = tokenizer["model"]["vocab"];
  const Json config = config_of(dir);
  std::map<std::string, uint64_t> tokens;
  std::set<uint64_t> ids;
  for (const auto& [token, id] : vocab.items()) {
    tokens[token] = id;
    EXPECT_TRUE(ids.insert(id.get<uint64_t>()).second) << token;
  }
  for (const Json& merge : tokenizer["model"]["merges"]) {
    const auto text = merge.get<std::string>();
    const size_t space = text.find(' ');
    ASSERT_NE(space, std::string::npos);
    const std::string left = text.substr(0, space), right = text.substr(space + 1);
    ASSERT_TRUE(tokens.contains(left) && tokens.contains(right) && tokens.contains(left + right)) << text;
    ASSERT_GT(tokens[left + right], tokens[left]) << "merges are ordered as tokens";
  }
  for (const Json& added : tokenizer["added_tokens"]) ids.insert(added["id"].get<uint64_t>());
  EXPECT_EQ(*ids.rbegin() + 1, ids.size()) << "a gap";
  EXPECT_LE(ids.size(), config["vocab_size"].get<uint64_t>());
  // 256 single-character tokens stand for the bytes.
  size_t n_single = 0;
  for (const auto& [token, id] : tokens) n_single += token.size() == 1 || (token.size() == 2 && (token[0] & 0x80) != 0);
  EXPECT_EQ(n_single, 256u);
  for (const char* key : {"bos_token_id", "eos_token_id"}) {
    const auto id = config[key].get<uint64_t>();
    bool found = false;
    for (const Json& added : tokenizer["added_tokens"]) found |= added["id"] == id;
    EXPECT_TRUE(found) << key;
  }
}

TEST(MakeCheckpoint, TokenizersAreValid) {
  const std::string small = " --layers 1 --hidden 32 --ff 32 --heads 2 --kv-heads 1 -o ";
  for (const std::string model :
       {"tiny", "llama-3.2-1b", "llama-2-7b", "qwen2-0.5b", "qwen3-0.6b", "llama-3.1-8b --vocab 300",
        "qwen2-0.5b --vocab 9000", "llama-2-7b --vocab 259", "llama-3.1-8b --vocab 20000"}) {
    SCOPED_TRACE(model);
    const std::string dir = test::temp_dir() + "/m";
    const Outcome run = make_checkpoint("--like " + model + small + dir);
    ASSERT_EQ(run.exit_code, 0) << run.out;
    check_tokenizer(dir);
  }
}

TEST(MakeCheckpoint, WrongUsageIsRefusedWithTheReason) {
  const std::string dir = test::temp_dir() + "/m";
  const std::tuple<std::string, int, const char*> cases[] = {
      {"", 2, "--like MODEL or --from DIR is required"},
      {"--outliers -o " + dir, 2, "--from"},
      {"--like tiny --from tiny -o " + dir, 2, "--from"},
      {"--from /no/such/model --outliers -o " + dir, 1, "/no/such/model"},
      {"--from /no/such/model --layers 2 -o " + dir, 2, "--layers"},
      {"--like tiny", 2, "-o DIR is required"},
      {"--like tiny --dtype q4 -o " + dir, 2, "--dtype"},
      {"--like gpt-5 -o " + dir, 1, "no model gpt-5; there are llama-3.1-8b"},
      {"--like tiny --layers 0 -o " + dir, 1, "num_hidden_layers = 0"},
      {"--like tiny --kv-heads 3 -o " + dir, 1, "8 heads are no multiple of 3 KV heads"},
      {"--like tiny --vocab 100 -o " + dir, 1, "256 bytes, 16 special tokens"},
      {"--like tiny --hidden 100 -o " + dir, 1, "no multiple of 8 heads"},
      {"--like tiny --layers 1 --jagged -o " + dir, 1, "needs two layers"},
      {"--like tiny -o /proc/absent/x", 1, "/proc/absent"},
  };
  for (const auto& [arguments, code, reason] : cases) {
    const Outcome run = make_checkpoint(arguments);
    EXPECT_EQ(run.exit_code, code) << arguments;
    EXPECT_NE(run.out.find(reason), std::string::npos) << run.out;
    EXPECT_FALSE(fs::exists(dir + "/config.json"));
  }
  const Outcome run = make_checkpoint("--like tiny --hidden 1048576 --heads 256 --kv-heads 2 --ff 4194304 -o " + dir);
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_NE(run.out.find("bytes, the disk has"), std::string::npos) << run.out;
  EXPECT_FALSE(fs::exists(dir + "/config.json"));
}

}  // namespace
}  // namespace shoehorn::io
