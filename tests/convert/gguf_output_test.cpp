#include "convert/gguf_output.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cmath>
#include <csignal>
#include <filesystem>
#include <cstring>
#include <limits>
#include <random>

#include "convert/check.h"
#include "convert/naming.h"
#include "io/safetensors.h"
#include "support/support.h"
#include "support/tiny_checkpoint.h"

namespace shoehorn::convert {
namespace {

namespace fs = std::filesystem;

/// A tiny model whose rows are whole K-quant blocks.
Json wide_config() {
  Json config = test::tiny_config();
  config["hidden_size"] = 256;
  config["head_dim"] = 64;
  config["intermediate_size"] = 512;
  return config;
}

Expected<OutputReport> write(const std::string& in, const std::string& out, OutputOptions options) {
  NoProgress progress;
  auto source = ModelSource::open(in, progress);
  if (!source) return tl::unexpected<Error>(source.error());
  return write_gguf(*source, out, options, progress);
}

OutputOptions as(const char* type) { return {.mix = quant::find_mix(type)}; }

void expect_failure(const std::string& in, const std::vector<std::string>& parts) {
  const std::string out = test::temp_dir() + "/out.gguf";
  const auto result = write(in, out, as("F16"));
  ASSERT_FALSE(result.has_value());
  for (const std::string& part : parts) {
    EXPECT_NE(result.error().message.find(part), std::string::npos) << "\"" << part << "\" in: " << result.error().message;
  }
  EXPECT_TRUE(fs::is_empty(fs::path(out).parent_path())) << "something was left behind";
}

/// Rewrites a checkpoint's weights after a change.
void rewrite(const test::TinyCheckpoint& checkpoint, io::DType dtype = io::DType::F32,
             const std::map<std::string, std::vector<uint64_t>>& shapes = {}) {
  fs::remove(checkpoint.directory + "/model.safetensors");
  io::SafetensorsWriter writer;
  for (const auto& [name, values] : checkpoint.weights) {
    std::vector<uint64_t> shape = {values.size()};
    if (shapes.contains(name)) {
      shape = shapes.at(name);
    } else if (!name.ends_with("norm.weight") && !name.ends_with(".bias")) {
      const uint64_t n_cols = name.find("down_proj") != std::string::npos ? checkpoint.config["intermediate_size"].get<uint64_t>()
                                                                          : checkpoint.config["hidden_size"].get<uint64_t>();
      shape = {values.size() / n_cols, n_cols};
    }
    ASSERT_TRUE(writer.add_tensor(name, dtype, shape).has_value());
  }
  ASSERT_TRUE(writer.begin(checkpoint.directory).has_value());
  for (const auto& [name, values] : checkpoint.weights) ASSERT_TRUE(writer.append(std::as_bytes(std::span(values))).has_value());
  ASSERT_TRUE(writer.commit().has_value());
}

TEST(WriteGguf, KeepsEveryWeightExactlyInF32) {
  Json config = test::tiny_config();
  config["architectures"] = {"Qwen2ForCausalLM"};  // no permuted rows
  const auto checkpoint = test::make_tiny_checkpoint(config);
  const std::string out = test::temp_dir() + "/out.gguf";
  ASSERT_EXPECTED(const auto report, write(checkpoint.directory, out, as("F32")));
  EXPECT_EQ(report.file_bytes, fs::file_size(out));
  ASSERT_EXPECTED(const auto file, io::GgufFile::open(out));
  const auto expect_same = [&](const char* gguf_name, const char* hf_name) {
    const io::GgufTensor* tensor = file.find(gguf_name);
    ASSERT_NE(tensor, nullptr);
    const auto& expected = checkpoint.weights.at(hf_name);
    ASSERT_EQ(tensor->data.size(), expected.size() * sizeof(float));
    EXPECT_EQ(std::memcmp(tensor->data.data(), expected.data(), tensor->data.size()), 0) << gguf_name;
  };
  expect_same("token_embd.weight", "model.embed_tokens.weight");
  expect_same("blk.1.attn_q.weight", "model.layers.1.self_attn.q_proj.weight");
  expect_same("blk.2.attn_k.bias", "model.layers.2.self_attn.k_proj.bias");
  expect_same("blk.0.ffn_down.weight", "model.layers.0.mlp.down_proj.weight");
  expect_same("output_norm.weight", "model.norm.weight");
}

TEST(WriteGguf, InterleavesTheRowsOfRotatedHeadsForLlama) {
  const auto checkpoint = test::make_tiny_checkpoint(test::tiny_config());
  const std::string out = test::temp_dir() + "/out.gguf";
  ASSERT_TRUE(write(checkpoint.directory, out, as("F32")).has_value());
  ASSERT_EXPECTED(const auto file, io::GgufFile::open(out));
  const auto* q = reinterpret_cast<const float*>(file.find("blk.0.attn_q.weight")->data.data());
  const auto& hf = checkpoint.weights.at("model.layers.0.self_attn.q_proj.weight");
  // head_dim 16: rows 0, 1, 2, 3 of a head are Hugging Face's 0, 8, 1, 9.
  for (const auto& [row, hf_row] : {std::pair{0, 0}, {1, 8}, {2, 1}, {3, 9}, {16, 16}, {17, 24}}) {
    EXPECT_EQ(q[row * 64], hf[static_cast<size_t>(hf_row) * 64]) << "row " << row;
  }
}

TEST(WriteGguf, BytesDoNotDependOnThreadsNorOnAnIntermediateFile) {
  const auto checkpoint = test::make_tiny_checkpoint(wide_config());
  const std::string dir = test::temp_dir();
  OutputOptions one = as("Q4_K_M"), three = as("Q4_K_M");
  one.n_threads = 1;
  three.n_threads = 3;
  ASSERT_TRUE(write(checkpoint.directory, dir + "/one.gguf", one).has_value());
  ASSERT_TRUE(write(checkpoint.directory, dir + "/three.gguf", three).has_value());
  ASSERT_TRUE(write(checkpoint.directory, dir + "/f32.gguf", as("F32")).has_value());
  ASSERT_TRUE(write(dir + "/f32.gguf", dir + "/via.gguf", three).has_value());
  EXPECT_EQ(test::read_bytes(dir + "/one.gguf"), test::read_bytes(dir + "/three.gguf"));
  EXPECT_EQ(test::read_bytes(dir + "/one.gguf"), test::read_bytes(dir + "/via.gguf"));
}

TEST(WriteGguf, EveryMixIsReadBackWhole) {
  const auto checkpoint = test::make_tiny_checkpoint(wide_config());
  for (const quant::Mix& mix : quant::mixes()) {
    const std::string out = test::temp_dir() + "/out.gguf";
    ASSERT_TRUE(write(checkpoint.directory, out, {.mix = &mix}).has_value()) << mix.name;
    NoProgress progress;
    const auto checked = check_model(out, {.n_threads = 1}, progress);
    EXPECT_TRUE(checked.has_value()) << mix.name << ": " << checked.error().message;
    ASSERT_EXPECTED(const auto file, io::GgufFile::open(out));
    EXPECT_EQ(file.metadata().get_uint("general.file_type"), mix.file_type);
  }
}

TEST(WriteGguf, OverridesPinTypesAndTheLastOneWins) {
  const auto checkpoint = test::make_tiny_checkpoint(wide_config());
  const std::string out = test::temp_dir() + "/out.gguf";
  OutputOptions options = as("Q4_K_M");
  options.overrides = {{"ffn_", quant::Type::Q2_K}, {"blk\\.1\\.ffn_down", quant::Type::F16}};
  ASSERT_TRUE(write(checkpoint.directory, out, options).has_value());
  ASSERT_EXPECTED(const auto file, io::GgufFile::open(out));
  EXPECT_EQ(file.find("blk.0.ffn_down.weight")->type, quant::Type::Q2_K);
  EXPECT_EQ(file.find("blk.1.ffn_down.weight")->type, quant::Type::F16);
  EXPECT_EQ(file.find("blk.1.ffn_norm.weight")->type, quant::Type::F32);
  options.overrides = {{"no_such_tensor", quant::Type::F16}};
  EXPECT_FALSE(write(checkpoint.directory, out, options).has_value());
  options.overrides = {{"(", quant::Type::F16}};
  EXPECT_FALSE(write(checkpoint.directory, out, options).has_value());
}

TEST(WriteGguf, RefusesAQuantizedSourceUnlessTold) {
  const auto checkpoint = test::make_tiny_checkpoint(wide_config());
  const std::string dir = test::temp_dir();
  ASSERT_TRUE(write(checkpoint.directory, dir + "/q8.gguf", as("Q8_0")).has_value());
  const auto refused = write(dir + "/q8.gguf", dir + "/q4.gguf", as("Q4_K_M"));
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().message.find("--allow-requantize"), std::string::npos);
  OutputOptions options = as("Q4_K_M");
  options.allow_requantize = true;
  EXPECT_TRUE(write(dir + "/q8.gguf", dir + "/q4.gguf", options).has_value());
}

/// What read_rows of a written tensor gives.
std::vector<float> decoded(const io::GgufFile& file, const std::string& name) {
  const io::GgufTensor& tensor = *file.find(name);
  std::vector<float> values(tensor.n_elements());
  quant::format(tensor.type).decode(tensor.data.data(), values.data(), values.size());
  return values;
}

/// An importance matrix with an entry for every matrix of a checkpoint: every eighth column matters, the others less.
io::Imatrix make_imatrix(const ModelSource& source) {
  io::Imatrix imatrix;
  imatrix.datasets = {"a.txt", "b.txt"};
  imatrix.chunk_count = 7;
  for (const SourceTensor& tensor : source.tensors()) {
    if (tensor.shape.size() < 2) continue;
    std::vector<double> sums(tensor.n_cols(), 1);
    for (size_t i = 0; i < sums.size(); i += 8) sums[i] = 1000;
    imatrix.entries[tensor.name] = {.in_sum2 = std::move(sums), .counts = {10}};
  }
  return imatrix;
}

TEST(WriteGguf, ImportantColumnsAreEncodedMoreExactly) {
  const auto checkpoint = test::make_tiny_checkpoint(wide_config());
  NoProgress progress;
  ASSERT_EXPECTED(const ModelSource source, ModelSource::open(checkpoint.directory, progress));
  const io::Imatrix imatrix = make_imatrix(source);
  const std::string dir = test::temp_dir(), exact_path = dir + "/f32.gguf";
  ASSERT_TRUE(write(checkpoint.directory, exact_path, as("F32")));
  ASSERT_EXPECTED(const auto exact, io::GgufFile::open(exact_path));
  for (const char* type : {"Q2_K", "Q3_K_M", "Q4_K_M", "IQ4_XS", "Q4_0"}) {
    ASSERT_TRUE(write(checkpoint.directory, dir + "/plain.gguf", as(type)));
    OutputOptions options = as(type);
    options.imatrix = &imatrix;
    options.imatrix_path = "some/imatrix.gguf";
    ASSERT_TRUE(write(checkpoint.directory, dir + "/weighted.gguf", options));
    ASSERT_EXPECTED(const auto plain, io::GgufFile::open(dir + "/plain.gguf"));
    ASSERT_EXPECTED(const auto weighted, io::GgufFile::open(dir + "/weighted.gguf"));
    for (const SourceTensor& tensor : source.tensors()) {
      if (tensor.shape.size() < 2 || weighted.find(tensor.name)->type != plain.find(tensor.name)->type) continue;
      const auto truth = decoded(exact, tensor.name), a = decoded(plain, tensor.name), b = decoded(weighted, tensor.name);
      double before = 0, after = 0;
      for (size_t i = 0; i < truth.size(); ++i) {
        if (i % 8 != 0) continue;
        before += std::pow(static_cast<double>(truth[i] - a[i]), 2);
        after += std::pow(static_cast<double>(truth[i] - b[i]), 2);
      }
      EXPECT_LT(after, before) << type << " " << tensor.name;
    }
    EXPECT_EQ(*weighted.metadata().get_string("quantize.imatrix.file"), "some/imatrix.gguf");
    EXPECT_EQ(*weighted.metadata().get_string("quantize.imatrix.dataset"), "a.txt, b.txt");
    EXPECT_EQ(std::get<int32_t>(*weighted.metadata().find("quantize.imatrix.entries_count")), 23);
    EXPECT_EQ(std::get<int32_t>(*weighted.metadata().find("quantize.imatrix.chunks_count")), 7);
    EXPECT_FALSE(plain.metadata().contains("quantize.imatrix.file"));
  }
}

TEST(WriteGguf, AnImportanceMatrixOfAnotherModelIsRefused) {
  const auto checkpoint = test::make_tiny_checkpoint(wide_config());
  NoProgress progress;
  ASSERT_EXPECTED(const ModelSource source, ModelSource::open(checkpoint.directory, progress));
  const io::Imatrix whole = make_imatrix(source);
  const auto refused = [&](const io::Imatrix& imatrix, const std::vector<std::string>& parts) {
    OutputOptions options = as("Q4_K_M");
    options.imatrix = &imatrix;
    options.imatrix_path = "other.gguf";
    const std::string out = test::temp_dir() + "/out.gguf";
    const auto result = write(checkpoint.directory, out, options);
    ASSERT_FALSE(result.has_value());
    for (const std::string& part : parts) EXPECT_NE(result.error().message.find(part), std::string::npos) << result.error().message;
    EXPECT_FALSE(fs::exists(out));
  };
  io::Imatrix narrow = whole;
  narrow.entries["blk.1.ffn_down.weight"].in_sum2.resize(100);
  refused(narrow, {"blk.1.ffn_down.weight has 512 columns", "other.gguf has 100"});
  io::Imatrix foreign;
  foreign.entries["encoder.weight"] = {.in_sum2 = {1}, .counts = {1}};
  refused(foreign, {"other.gguf", "no entry is a tensor of " + checkpoint.directory});
}

TEST(WriteGguf, MatricesWithoutImportanceAreNamed) {
  struct Notes : NoProgress {
    std::string text;
    void note(std::string_view note) override { text += note; }
  } notes;
  const auto checkpoint = test::make_tiny_checkpoint(wide_config());
  ASSERT_EXPECTED(const ModelSource source, ModelSource::open(checkpoint.directory, notes));
  io::Imatrix imatrix = make_imatrix(source);
  for (const char* name : {"token_embd.weight", "output.weight", "blk.2.attn_k.weight"}) imatrix.entries.erase(name);
  OutputOptions options = as("Q4_K_M");
  options.imatrix = &imatrix;
  options.imatrix_path = "imatrix.gguf";
  notes.text.clear();
  ASSERT_TRUE(write_gguf(source, test::temp_dir() + "/out.gguf", options, notes));
  EXPECT_NE(notes.text.find("output.weight"), std::string::npos) << notes.text;
  EXPECT_NE(notes.text.find("blk.2.attn_k.weight"), std::string::npos) << notes.text;
  EXPECT_EQ(notes.text.find("token_embd"), std::string::npos) << "an embedding is no product";
}

/// Channels that nothing ever went through, in part of a row or all of it, must not spoil the scales.
TEST(WriteGguf, ImportanceOfZeroIsNoDivisionByIt) {
  const auto checkpoint = test::make_tiny_checkpoint(wide_config());
  NoProgress progress;
  ASSERT_EXPECTED(const ModelSource source, ModelSource::open(checkpoint.directory, progress));
  io::Imatrix imatrix = make_imatrix(source);
  int i = 0;
  for (auto& [name, entry] : imatrix.entries) {
    std::fill(entry.in_sum2.begin() + (i % 3) * 100, entry.in_sum2.end(), i % 2 == 0 ? 0 : 1e-37);
    ++i;
  }
  for (const char* type : {"Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M", "IQ4_XS", "IQ4_NL", "Q4_0", "Q5_1", "TQ2_0"}) {
    OutputOptions options = as(type);
    options.imatrix = &imatrix;
    const std::string path = test::temp_dir() + "/out.gguf";
    ASSERT_TRUE(write(checkpoint.directory, path, options));
    ASSERT_EXPECTED(const auto checked, check_model(path, {.n_threads = 2}, progress));
    EXPECT_EQ(checked.tensors, source.tensors().size()) << type;
  }
}

/// Every tensor of llama.cpp's own files that were made with an importance matrix has the type that ours has.
TEST(WriteGguf, WithAnImportanceMatrixTypesAreLlamaCpps) {
  SHOEHORN_SHARED(imatrix_path, "reference/fable-10m.imatrix.dat");
  SHOEHORN_SHARED(model_path, "reference/fable-10m-F16.gguf");
  ASSERT_EXPECTED(const io::Imatrix imatrix, io::read_imatrix(imatrix_path));
  for (const std::string type : {"Q4_K_M", "Q3_K_M", "Q2_K", "IQ4_XS"}) {
    SHOEHORN_SHARED(reference_path, "reference/fable-10m-" + type + "-imatrix.gguf");
    OutputOptions options = as(type.c_str());
    options.imatrix = &imatrix;
    options.imatrix_path = imatrix_path;
    const std::string path = test::temp_dir() + "/out.gguf";
    ASSERT_TRUE(write(model_path, path, options));
    ASSERT_EXPECTED(const auto ours, io::GgufFile::open(path));
    ASSERT_EXPECTED(const auto theirs, io::GgufFile::open(reference_path));
    ASSERT_EQ(ours.tensors().size(), theirs.tensors().size());
    for (const io::GgufTensor& tensor : theirs.tensors()) {
      EXPECT_EQ(quant::format(ours.find(tensor.name)->type).name, quant::format(tensor.type).name) << type << " " << tensor.name;
    }
    for (const char* key : {"quantize.imatrix.entries_count", "quantize.imatrix.chunks_count"}) {
      EXPECT_EQ(std::get<int32_t>(*ours.metadata().find(key)), std::get<int32_t>(*theirs.metadata().find(key))) << key;
    }
    EXPECT_TRUE(ours.metadata().get_string("quantize.imatrix.dataset")->ends_with("books.train.txt"));
  }
}

TEST(WriteGguf, JaggedCheckpointsBecomeDeciWithInt32Arrays) {
  Json config = test::tiny_config();
  config["intermediate_size"] = {96, 64, 32};
  config["num_attention_heads"] = {4, 0, 4};
  config["num_key_value_heads"] = {2, 0, 1};
  const auto checkpoint = test::make_tiny_checkpoint(config);
  const std::string out = test::temp_dir() + "/out.gguf";
  ASSERT_TRUE(write(checkpoint.directory, out, as("F16")).has_value());
  ASSERT_EXPECTED(const auto file, io::GgufFile::open(out));
  EXPECT_EQ(*file.metadata().get_string("general.architecture"), "deci");
  const auto& array = std::get<io::GgufArray>(*file.metadata().find("deci.feed_forward_length"));
  EXPECT_EQ(std::get<std::vector<int32_t>>(array), (std::vector<int32_t>{96, 64, 32}));
  const auto& heads = std::get<io::GgufArray>(*file.metadata().find("deci.attention.head_count_kv"));
  EXPECT_EQ(std::get<std::vector<int32_t>>(heads), (std::vector<int32_t>{2, 0, 1}));
  EXPECT_EQ(file.metadata().get_uint("deci.attention.key_length"), 16u);
  EXPECT_EQ(file.find("blk.1.attn_q.weight"), nullptr);
}

TEST(BadCheckpoint, NanNamesTensorAndRow) {
  auto checkpoint = test::make_tiny_checkpoint(test::tiny_config());
  checkpoint.weights["model.layers.1.mlp.up_proj.weight"][5 * 64 + 3] = std::numeric_limits<float>::quiet_NaN();
  rewrite(checkpoint);
  expect_failure(checkpoint.directory, {"model.layers.1.mlp.up_proj.weight", "row 5", "NaN"});
}

TEST(BadCheckpoint, AWeightBeyondF16IsNotTurnedIntoInfinity) {
  auto checkpoint = test::make_tiny_checkpoint(test::tiny_config());
  checkpoint.weights["lm_head.weight"][0] = 1e6f;
  rewrite(checkpoint);
  expect_failure(checkpoint.directory, {"lm_head.weight", "65504", "bf16"});
  EXPECT_TRUE(write(checkpoint.directory, test::temp_dir() + "/out.gguf", as("BF16")).has_value());
}

TEST(BadCheckpoint, MissingAndForeignTensorsAreNamed) {
  auto missing = test::make_tiny_checkpoint(test::tiny_config());
  missing.weights.erase("model.layers.2.self_attn.o_proj.weight");
  rewrite(missing);
  expect_failure(missing.directory, {"model.layers.2.self_attn.o_proj.weight", "missing"});

  auto foreign = test::make_tiny_checkpoint(test::tiny_config());
  foreign.weights["model.layers.0.self_attn.q_norm.weight"] = std::vector<float>(16, 1);
  rewrite(foreign);
  expect_failure(foreign.directory, {"model.layers.0.self_attn.q_norm.weight", "LlamaForCausalLM"});
}

TEST(BadCheckpoint, WrongShapeAndDtypeAreNamed) {
  const auto checkpoint = test::make_tiny_checkpoint(test::tiny_config());
  rewrite(checkpoint, io::DType::F32, {{"model.layers.0.mlp.gate_proj.weight", {64, 96}}});
  expect_failure(checkpoint.directory, {"model.layers.0.mlp.gate_proj.weight", "[64, 96]", "[96, 64]"});
  rewrite(checkpoint, io::DType::I32);
  expect_failure(checkpoint.directory, {"lm_head.weight", "I32"});
}

TEST(BadCheckpoint, MissingOrEmptyFilesAreNamed) {
  const auto without = [](const char* file, const std::vector<std::string>& parts) {
    const auto checkpoint = test::make_tiny_checkpoint(test::tiny_config());
    fs::remove(checkpoint.directory + "/" + file);
    expect_failure(checkpoint.directory, parts);
    test::write_text(checkpoint.directory + "/" + file, "");
    expect_failure(checkpoint.directory, parts);
  };
  without("config.json", {"config.json"});
  without("tokenizer.json", {"tokenizer"});
  without("model.safetensors", {"model.safetensors"});
  expect_failure("/no/such/directory", {"/no/such/directory"});
}

TEST(WriteGguf, AFullDiskLeavesNothingAndHarmsNothing) {
  const auto checkpoint = test::make_tiny_checkpoint(test::tiny_config());
  const std::string out = test::temp_dir() + "/out.gguf";
  test::write_text(out, "precious");
  signal(SIGXFSZ, SIG_IGN);
  struct rlimit before, small;
  getrlimit(RLIMIT_FSIZE, &before);
  small = before;
  small.rlim_cur = 100000;
  setrlimit(RLIMIT_FSIZE, &small);
  const auto result = write(checkpoint.directory, out, as("F32"));
  setrlimit(RLIMIT_FSIZE, &before);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code, ErrorCode::kIo);
  EXPECT_EQ(test::read_text(out), "precious");
  EXPECT_EQ(std::distance(fs::directory_iterator(fs::path(out).parent_path()), {}), 1);
}

TEST(WriteGguf, StoppingLeavesNothing) {
  class Stop : public NoProgress {
   public:
    bool cancelled() const override { return true; }
  } stop;
  const auto checkpoint = test::make_tiny_checkpoint(test::tiny_config());
  const std::string out = test::temp_dir() + "/out.gguf";
  ASSERT_EXPECTED(const auto source, ModelSource::open(checkpoint.directory, stop));
  const auto result = write_gguf(source, out, as("F16"), stop);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code, ErrorCode::kCancelled);
  EXPECT_TRUE(fs::is_empty(fs::path(out).parent_path()));
}

TEST(WriteGguf, IsCheckedBeforeItHasItsName) {
  const auto checkpoint = test::make_tiny_checkpoint(test::tiny_config());
  const std::string dir = test::temp_dir(), out = dir + "/out.gguf";
  OutputOptions options = as("F16");
  options.remarks = {{"shoehorn.check.kld_mean", 0.0f}, {"shoehorn.check.text", std::string("none")}};
  options.check = [&](const std::string& path) -> Expected<Remarks> {
    EXPECT_FALSE(fs::exists(out));
    NoProgress progress;
    EXPECT_TRUE(check_model(path, {.n_threads = 1}, progress).has_value()) << "the whole file is there to be read";
    return Remarks{{"shoehorn.check.kld_mean", 0.25f}, {"shoehorn.check.text", std::string("mine")}};
  };
  ASSERT_TRUE(write(checkpoint.directory, out, options).has_value());
  {
    ASSERT_EXPECTED(const auto file, io::GgufFile::open(out));
    EXPECT_EQ(file.metadata().get_float("shoehorn.check.kld_mean"), 0.25);
    EXPECT_EQ(*file.metadata().get_string("shoehorn.check.text"), "mine");
  }
  // Its tensors are those of the unchecked file, and what is made of it does not repeat what was found.
  ASSERT_TRUE(write(checkpoint.directory, dir + "/plain.gguf", as("F16")).has_value());
  ASSERT_TRUE(write(out, dir + "/again.gguf", as("F16")).has_value());
  EXPECT_EQ(test::read_bytes(dir + "/again.gguf"), test::read_bytes(dir + "/plain.gguf"));

  for (const auto& wrong : {Remarks{{"shoehorn.check.text", std::string(100, 'x')}}, Remarks{{"undeclared", 1.0f}}}) {
    options.check = [&](const std::string&) -> Expected<Remarks> { return wrong; };
    EXPECT_FALSE(write(checkpoint.directory, dir + "/wrong.gguf", options).has_value());
  }
  options.check = [](const std::string&) -> Expected<Remarks> { return fail(ErrorCode::kInvalid, "it does not compute"); };
  const auto refused = write(checkpoint.directory, dir + "/refused.gguf", options);
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().message.find("does not compute"), std::string::npos);
  EXPECT_FALSE(fs::exists(dir + "/wrong.gguf"));
  EXPECT_FALSE(fs::exists(dir + "/refused.gguf"));
}

TEST(GgufOutput, EachExpertIsRoundedByItsOwnImportance) {
  const auto checkpoint = test::make_tiny_checkpoint(test::as_architecture(wide_config(), "MixtralForCausalLM"));
  const std::string name = "blk.1.ffn_down_exps.weight", path = test::temp_dir() + "/experts.gguf";
  constexpr size_t kExperts = 5, kCols = 512, kRows = 256;
  io::Imatrix imatrix;
  io::ImatrixEntry& entry = imatrix.entries[name];
  std::mt19937 random(5);
  for (size_t i = 0; i < kExperts * kCols; ++i) entry.in_sum2.push_back(static_cast<double>(random() % 1000));
  entry.counts = {3, 5, 7, 0, 11};  // the fourth saw nothing
  OutputOptions options = as("Q2_K");
  options.imatrix = &imatrix;
  options.overrides.push_back(*parse_type_override(name + "=Q2_K"));
  ASSERT_EXPECTED(const auto report, write(checkpoint.directory, path, options));
  ASSERT_EXPECTED(const auto file, io::GgufFile::open(path));
  const io::GgufTensor& tensor = *file.find(name);
  EXPECT_EQ(tensor.shape, (std::vector<uint64_t>{kCols, kRows, kExperts}));
  const quant::Format& format = quant::format(quant::Type::Q2_K);
  const std::vector<float> importance = entry.importance();
  std::vector<std::byte> row(quant::row_bytes(format, kCols));
  for (size_t expert = 0; expert < kExperts; ++expert) {
    const auto& weights = checkpoint.weights.at(fmt::format("model.layers.1.block_sparse_moe.experts.{}.w2.weight", expert));
    for (const size_t r : {size_t{0}, kRows - 1}) {
      format.encode(weights.data() + r * kCols, importance.data() + expert * kCols, row.data(), kCols);
      EXPECT_TRUE(std::ranges::equal(row, tensor.data.subspan((expert * kRows + r) * row.size(), row.size()))) << expert << " " << r;
    }
  }

  entry.counts.pop_back();
  entry.in_sum2.resize(4 * kCols);
  const auto other = write(checkpoint.directory, path, options);
  ASSERT_FALSE(other.has_value());
  EXPECT_NE(other.error().message.find("another model's"), std::string::npos) << other.error().message;
}

TEST(ModelName, FollowsTheGgufNamingConvention) {
  const ModelName name = parse_model_name("/models/Llama-3.1-8B-Instruct/", 8030261248);
  EXPECT_EQ(name.name, "Llama 3.1 8B Instruct");
  EXPECT_EQ(name.basename, "Llama-3.1");
  EXPECT_EQ(name.finetune, "Instruct");
  EXPECT_EQ(name.size_label, "8.0B");
  const ModelName mistral = parse_model_name("Mistral-7B-Instruct-v0.3", 7248023552);
  EXPECT_EQ(mistral.basename, "Mistral");
  EXPECT_EQ(mistral.version, "v0.3");
  EXPECT_EQ(size_label(9703680), "9.7M");
  EXPECT_EQ(size_label(494032768), "494M");
  EXPECT_EQ(size_label(260032), "260K");
}

}  // namespace
}  // namespace shoehorn::convert
