#include "eval/imatrix.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>
#include <optional>
#include <set>

#include "base/memory.h"
#include "eval/chunks.h"
#include "eval/text_likeness.h"
#include "support/notes.h"
#include "support/resume.h"
#include "support/running_model.h"
#include "support/support.h"
#include "support/tiny_checkpoint.h"

namespace shoehorn::eval {
namespace {

namespace fs = std::filesystem;

using test::open_session;
using test::to_gguf;

/// Words of a small language; the byte-level tokenizers of tiny checkpoints make a token of each letter.
std::string some_text(size_t n_bytes) {
  std::string text;
  for (unsigned i = 1; text.size() < n_bytes; i = i * 1103515245 + 12345) {
    for (unsigned n = 2 + (i >> 16) % 7, j = 0; j < n; ++j) text += static_cast<char>('a' + ((i >> (j + 3)) + j) % 26);
    text += ' ';
  }
  return text.substr(0, n_bytes);
}

constexpr size_t kCtx = 24;

/// A tiny model as a session, and collecting on it.
class Collecting : public testing::Test {
 protected:
  void SetUp() override {
    checkpoint_ = test::make_tiny_checkpoint(test::tiny_config());
    path_ = to_gguf(checkpoint_.directory, "F32");
  }
  engine::SessionOptions exact(int n_threads = 2) const {
    return {.n_ctx = kCtx, .n_threads = n_threads, .key_type = quant::Type::F32, .value_type = quant::Type::F32};
  }
  io::Imatrix collect(const ImatrixOptions& options, const engine::SessionOptions& session_options) const {
    engine::Session session = open_session(path_, session_options);
    NoProgress progress;
    auto imatrix = collect_imatrix(session, text_, options, progress);
    EXPECT_TRUE(imatrix.has_value()) << imatrix.error().message;
    return std::move(*imatrix);
  }

  test::TinyCheckpoint checkpoint_;
  std::string path_;
  const std::string text_ = some_text(500);
};

void expect_same_bits(const io::Imatrix& a, const io::Imatrix& b) {
  EXPECT_EQ(a.chunk_count, b.chunk_count);
  ASSERT_EQ(a.entries.size(), b.entries.size());
  for (const auto& [name, entry] : a.entries) {
    ASSERT_TRUE(b.entries.contains(name)) << name;
    EXPECT_EQ(entry.in_sum2, b.entries.at(name).in_sum2) << name;
    EXPECT_EQ(entry.counts, b.entries.at(name).counts) << name;
  }
}

/// Compares with the squares that the plain forward pass finds, in double and by Hugging Face names.
void expect_plain_sums(const test::TinyCheckpoint& checkpoint, const std::string& gguf, bool process_output) {
  engine::Session session =
      open_session(gguf, {.n_ctx = kCtx, .n_threads = 2, .key_type = quant::Type::F32, .value_type = quant::Type::F32});
  const std::string text = some_text(500);
  NoProgress progress;
  ASSERT_EXPECTED(
      const io::Imatrix imatrix,
      collect_imatrix(session, text, {.first_chunk = 1, .max_chunks = 3, .process_output = process_output}, progress));
  EXPECT_EQ(imatrix.chunk_count, 3u);
  EXPECT_EQ(imatrix.chunk_size, kCtx);

  test::InputSquares expected;
  ASSERT_EXPECTED(const Chunks chunks, Chunks::cut(session.model().tokenizer(), text, kCtx));
  for (size_t i = 1; i <= 3; ++i) {
    const auto ids = chunks[i];
    test::plain_forward(checkpoint, {ids.begin(), ids.end()}, &expected);
  }
  std::set<std::string> compared;
  const engine::Model& model = session.model();
  const models::Hparams& h = model.hparams();
  for (const models::TensorSpec& spec : models::tensor_specs(model.architecture(), model.hparams())) {
    const bool is_output =
        spec.gguf_name == "output.weight" || (spec.gguf_name == "token_embd.weight" && model.hparams().tied_embeddings);
    const bool wanted = spec.shape.size() > 1 && (spec.layer >= 0 || (is_output && process_output));
    ASSERT_EQ(imatrix.entries.contains(spec.gguf_name), wanted) << spec.gguf_name;
    if (!wanted) continue;
    compared.insert(spec.gguf_name);
    const io::ImatrixEntry& entry = imatrix.entries.at(spec.gguf_name);
    std::vector<double> sums(spec.shape[0]);  // of an expert that no token went to
    if (const auto found = expected.find(spec.hf_name); found != expected.end() || spec.expert < 0) sums = expected.at(spec.hf_name);
    const size_t n_mat = spec.expert < 0 ? 1 : h.n_expert, mat = spec.expert < 0 ? 0 : static_cast<size_t>(spec.expert);
    ASSERT_EQ(entry.in_sum2.size(), n_mat * sums.size()) << spec.gguf_name;
    ASSERT_EQ(entry.counts.size(), n_mat);
    const uint64_t counted = std::accumulate(entry.counts.begin(), entry.counts.end(), uint64_t{0});
    EXPECT_EQ(counted, 3 * kCtx * (spec.expert < 0 ? 1 : h.n_expert_used)) << spec.gguf_name;
    for (size_t c = 0; c < sums.size(); ++c)
      EXPECT_NEAR(entry.in_sum2[mat * sums.size() + c], sums[c], 1e-4 * sums[c]) << spec.gguf_name << " " << c;
  }
  EXPECT_EQ(compared.size(), imatrix.entries.size());
}

TEST_F(Collecting, SumsAreThoseOfThePlainPass) {
  expect_plain_sums(checkpoint_, path_, false);
  expect_plain_sums(checkpoint_, path_, true);
}

TEST_F(Collecting, ExpertsHaveTheSumsOfTheirTokens) {
  for (const char* name : {"Qwen2MoeForCausalLM", "Qwen3MoeForCausalLM"}) {
    SCOPED_TRACE(name);
    const auto checkpoint = test::make_tiny_checkpoint(test::as_architecture(test::tiny_config(), name));
    expect_plain_sums(checkpoint, to_gguf(checkpoint.directory, "F32"), false);
  }
}

TEST_F(Collecting, ATiedOutputMatrixIsFoundUnderTheEmbeddingsName) {
  Json config = test::tiny_config();
  config["tie_word_embeddings"] = true;
  const auto checkpoint = test::make_tiny_checkpoint(config);
  expect_plain_sums(checkpoint, to_gguf(checkpoint.directory, "F32"), true);
}

TEST_F(Collecting, LayersWithoutAttentionOrOfOtherWidthsHaveWhatTheyHave) {
  Json config = test::tiny_config();
  config["num_attention_heads"] = {4, 0, 2};
  config["num_key_value_heads"] = {2, 0, 1};
  config["intermediate_size"] = {96, 64, 32};
  config["head_dim"] = 16;
  const auto checkpoint = test::make_tiny_checkpoint(config);
  expect_plain_sums(checkpoint, to_gguf(checkpoint.directory, "F32"), false);
}

TEST_F(Collecting, OutputIsLeftOutUnlessAskedFor) {
  EXPECT_FALSE(collect({}, exact()).entries.contains("output.weight"));
  EXPECT_TRUE(collect({.process_output = true}, exact()).entries.contains("output.weight"));
}

TEST_F(Collecting, DoesNotDependOnThreads) {
  const io::Imatrix one = collect({.process_output = true}, exact(1));
  for (const int n_threads : {2, 3, 7}) expect_same_bits(one, collect({.process_output = true}, exact(n_threads)));
}

TEST_F(Collecting, LayerByLayerIsTheSameToTheLastBit) {
  const io::Imatrix whole = collect({.process_output = true, .chunks_per_pass = 1}, exact());
  ASSERT_GT(whole.chunk_count, 10u);
  for (const size_t n : {2, 7, 1000})
    expect_same_bits(whole, collect({.process_output = true, .chunks_per_pass = n}, exact()));

  // Batches shorter than a chunk: a layer's keys and values must still be those of the chunk.
  engine::SessionOptions batches = exact();
  batches.n_batch = 10;
  const io::Imatrix in_batches = collect({.chunks_per_pass = 1}, batches);
  expect_same_bits(in_batches, collect({.chunks_per_pass = 4}, batches));
  for (const auto& [name, entry] : in_batches.entries) {
    for (size_t i = 0; i < entry.in_sum2.size(); ++i)
      EXPECT_NEAR(entry.in_sum2[i] / whole.entries.at(name).in_sum2[i], 1, 1e-3);
  }
}

TEST_F(Collecting, EveryQuantizedModelCanBeCollectedOn) {
  const io::Imatrix exact_sums = collect({}, exact());
  engine::Session session = open_session(to_gguf(checkpoint_.directory, "Q8_0"), exact());
  NoProgress progress;
  ASSERT_EXPECTED(const io::Imatrix imatrix, collect_imatrix(session, text_, {}, progress));
  ASSERT_EQ(imatrix.entries.size(), exact_sums.entries.size());
  for (const auto& [name, entry] : imatrix.entries) {
    double sum = 0, expected = 0;
    for (const double s : entry.in_sum2) sum += s;
    for (const double s : exact_sums.entries.at(name).in_sum2) expected += s;
    EXPECT_NEAR(sum / expected, 1, 0.05) << name;
  }
}

TEST_F(Collecting, StoppedAndResumedGivesTheSameBytes) {
  const std::string directory = test::temp_dir(), state = directory + "/state";
  const std::string whole = directory + "/whole.gguf", resumed = directory + "/resumed.gguf";
  ASSERT_TRUE(io::write_imatrix(collect({.dataset = "text", .process_output = true}, exact()), whole));
  for (const size_t chunks_per_pass : {1, 4}) {
    ImatrixOptions options{.dataset = "text",
                           .process_output = true,
                           .chunks_per_pass = chunks_per_pass,
                           .state_path = state,
                           .save_every = 2,
                           .resume = true};
    int runs = 0;
    for (std::optional<io::Imatrix> done; !done; ++runs) {
      ASSERT_LT(runs, 50) << "no progress is made";
      engine::Session session = open_session(path_, exact(1 + runs % 3));
      // Stops at different places: within a pass, at its end.
      test::StopsAfter progress(3 * 4 + 1 + runs * 4);
      auto imatrix = collect_imatrix(session, text_, options, progress);
      if (imatrix) {
        done = std::move(*imatrix);
        ASSERT_TRUE(io::write_imatrix(*done, resumed));
      } else {
        EXPECT_EQ(imatrix.error().code, ErrorCode::kCancelled) << imatrix.error().message;
      }
    }
    EXPECT_GT(runs, 1) << "it was never stopped";
    EXPECT_EQ(test::read_bytes(resumed), test::read_bytes(whole));
    fs::remove(state);
  }
}

TEST_F(Collecting, AStateOfAnotherRunIsRefused) {
  ImatrixOptions options{.max_chunks = 4, .state_path = test::temp_dir() + "/state", .save_every = 1};
  collect(options, exact());
  const auto before = test::read_bytes(options.state_path);
  engine::Session session = open_session(path_, exact());
  NoProgress progress;
  const auto refused = [&](const ImatrixOptions& o, std::string_view text, std::string_view why) {
    const auto result = collect_imatrix(session, text, o, progress);
    ASSERT_FALSE(result.has_value());
    EXPECT_NE(result.error().message.find(why), std::string::npos) << result.error().message;
    EXPECT_NE(result.error().message.find(options.state_path), std::string::npos) << result.error().message;
  };
  refused(options, text_, "--resume");
  options.resume = true;
  refused(options, text_ + "more", "another");
  ImatrixOptions other = options;
  other.process_output = true;
  refused(other, text_, "another");
  other = options;
  other.max_chunks = 3;
  refused(other, text_, "has 4 chunks already");
  EXPECT_EQ(test::read_bytes(options.state_path), before);

  ASSERT_EXPECTED(io::Imatrix damaged, io::read_imatrix(options.state_path));
  damaged.entries.at("blk.0.attn_q.weight").in_sum2.resize(3);
  ASSERT_TRUE(io::write_imatrix(damaged, options.state_path));
  refused(options, text_, "blk.0.attn_q.weight does not fit");
  test::write_bytes(options.state_path, before);

  // More chunks of the same are no other run.
  options.max_chunks = 6;
  ImatrixOptions fresh{.max_chunks = 6};
  expect_same_bits(collect(options, exact()), collect(fresh, exact()));
}


TEST_F(Collecting, AModelThatDoesNotFitIsReadByLayersOrRefusedWithTheNumbers) {
  engine::Session session = open_session(path_, exact());
  test::Notes notes;
  const auto refused = collect_imatrix(session, text_, {.ram = 1 << 20}, notes);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::kTooLarge);
  EXPECT_NE(refused.error().message.find("1.00 MiB"), std::string::npos) << refused.error().message;

  ASSERT_TRUE(collect_imatrix(session, text_, {.ram = uint64_t{64} << 30}, notes).has_value());
  EXPECT_EQ(notes.text.find("a layer at a time"), std::string::npos) << notes.text;
}

TEST_F(Collecting, FewTokensAndNoTokensAreSaid) {
  engine::Session session = open_session(path_, exact());
  test::Notes notes;
  ASSERT_TRUE(collect_imatrix(session, text_, {.max_chunks = 2}, notes).has_value());
  EXPECT_NE(notes.text.find("48 tokens only"), std::string::npos) << notes.text;
  EXPECT_FALSE(collect_imatrix(session, "short", {}, notes).has_value());
  const auto beyond = collect_imatrix(session, text_, {.first_chunk = 10000}, notes);
  ASSERT_FALSE(beyond.has_value());
  EXPECT_NE(beyond.error().message.find("10000"), std::string::npos) << beyond.error().message;
}

TEST_F(Collecting, AnActivationThatIsNotFiniteNamesItsTensor) {
  for (float& gain : checkpoint_.weights.at("model.layers.1.post_attention_layernorm.weight")) gain = 1e30f;
  engine::Session session = open_session(to_gguf(test::write_checkpoint(checkpoint_), "F32"), exact());
  NoProgress progress;
  const auto result = collect_imatrix(session, text_, {}, progress);
  ASSERT_FALSE(result.has_value());
  EXPECT_NE(result.error().message.find("blk.1.ffn_down.weight"), std::string::npos) << result.error().message;
}

/// llama.cpp's own collection on the same 128,000 tokens. Its engine keeps keys and values in 16 bits as ours does,
/// multiplies F16 weights with activations rounded to 16 bits, and sums in floats: both show.
TEST(SlowImatrix, IsLlamaCpps) {
  SHOEHORN_SHARED(model_path, "reference/fable-10m-F16.gguf");
  SHOEHORN_SHARED(reference_path, "reference/fable-10m.imatrix.dat");
  SHOEHORN_SHARED(text_path, "data/text/books.train.txt");
  ASSERT_EXPECTED(const io::Imatrix reference, io::read_imatrix(reference_path));
  engine::Session session = open_session(model_path, {.n_ctx = 512});
  NoProgress progress;
  ASSERT_EXPECTED(const io::Imatrix ours,
                  collect_imatrix(session, test::read_text(text_path), {.max_chunks = 250}, progress));
  EXPECT_EQ(ours.chunk_count, 250u);
  EXPECT_EQ(ours.tokens(), 128'000u);
  ASSERT_EQ(ours.entries.size(), reference.entries.size());
  double worst = 0, squares = 0;
  size_t n = 0;
  for (const auto& [name, entry] : reference.entries) {
    ASSERT_TRUE(ours.entries.contains(name)) << name;
    const auto theirs = entry.importance(), mine = *ours.importance(name);
    ASSERT_EQ(theirs.size(), mine.size()) << name;
    for (size_t i = 0; i < mine.size(); ++i, ++n) {
      const double error = std::abs(static_cast<double>(mine[i]) / static_cast<double>(theirs[i]) - 1);
      worst = std::max(worst, error);
      squares += error * error;
    }
  }
  const double rms = std::sqrt(squares / static_cast<double>(n));
  std::printf("%zu channels: relative difference %.2g rms, %.2g at most\n", n, rms, worst);
  EXPECT_LT(rms, 2e-4);
  EXPECT_LT(worst, 2e-3);
}

TEST(CompareTexts, KnowsItsOwnKindFromAnother) {
  SHOEHORN_SHARED(model_path, "reference/fable-10m-Q8_0.gguf");
  SHOEHORN_SHARED(books_path, "data/text/books.train.txt");
  ASSERT_EXPECTED(const auto model, engine::Model::open(model_path));
  const std::string books = test::read_text(books_path).substr(0, 1'000'000);
  for (const auto& [path, unlike] : {std::pair{"data/text/books.test.txt", false},
                                     {"data/text/books.valid.txt", false},
                                     {"data/text/wikitext-2-raw/wiki.test.raw", true},
                                     {"data/text/exllamav3-cal/code.utf8", true},
                                     {"data/text/exllamav3-cal/multilingual.utf8", true}}) {
    SHOEHORN_SHARED(other_path, path);
    ASSERT_EXPECTED(const TextLikeness likeness, compare_texts(model->tokenizer(), books, test::read_text(other_path)));
    std::printf("%-42s divergence %.3f, within %.3f, unseen %.2f %%, %zu tokens\n", path, likeness.divergence,
                likeness.within, likeness.unseen * 100, likeness.tokens);
    EXPECT_EQ(likeness.unlike(), unlike) << path;
  }
}

TEST(CompareTexts, BoundsAreTheSameTextAndNothingInCommon) {
  const auto checkpoint = test::make_tiny_checkpoint(test::tiny_config());
  ASSERT_EXPECTED(const auto model, engine::Model::open(to_gguf(checkpoint.directory, "F32")));
  std::string letters, digits;
  for (int i = 0; i < 5000; ++i) letters += "abcd"[i % 4], digits += "0123"[i % 4];
  ASSERT_EXPECTED(const TextLikeness same, compare_texts(model->tokenizer(), letters, letters));
  EXPECT_NEAR(same.divergence, 0, 1e-3);
  EXPECT_EQ(same.unseen, 0);
  ASSERT_EXPECTED(const TextLikeness other, compare_texts(model->tokenizer(), letters, digits));
  EXPECT_NEAR(other.divergence, 1, 1e-9);
  EXPECT_EQ(other.unseen, 1);
  EXPECT_TRUE(other.unlike());
  EXPECT_FALSE(compare_texts(model->tokenizer(), letters, "0123").has_value());
}

}  // namespace
}  // namespace shoehorn::eval
