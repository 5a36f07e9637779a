#include "io/gguf.h"
#include "tokenizer_support.h"

namespace shoehorn::tokenizer::test {
namespace {

void expect_same(const Vocab& a, const Vocab& b) {
  EXPECT_EQ(a.model, b.model);
  EXPECT_EQ(a.pre, b.pre);
  EXPECT_TRUE(a.tokens == b.tokens);
  EXPECT_TRUE(a.types == b.types);
  EXPECT_TRUE(a.scores == b.scores);
  EXPECT_TRUE(a.merges == b.merges);
  EXPECT_EQ(a.bos, b.bos);
  EXPECT_EQ(a.eos, b.eos);
  EXPECT_EQ(a.eot, b.eot);
  EXPECT_EQ(a.unk, b.unk);
  EXPECT_EQ(a.pad, b.pad);
  EXPECT_EQ(a.eog, b.eog);
  EXPECT_EQ(a.lstrip, b.lstrip);
  EXPECT_EQ(a.rstrip, b.rstrip);
  EXPECT_EQ(a.add_bos, b.add_bos);
  EXPECT_EQ(a.add_eos, b.add_eos);
  EXPECT_EQ(a.add_space_prefix, b.add_space_prefix);
  EXPECT_EQ(a.chat_template, b.chat_template);
}

TEST(VocabGguf, KeysOfFable10mAreThoseOfLlamaCpp) {
  SHOEHORN_SHARED(model, "models/fable-10m");
  SHOEHORN_SHARED(reference, "reference/fable-10m-F16.gguf");
  ASSERT_EXPECTED(const auto file, io::GgufFile::open(reference));
  ASSERT_EXPECTED(const Vocab vocab, vocab_from_directory(model, 4096));
  io::GgufMetadata ours;
  vocab_to_gguf(vocab, ours);
  size_t n_keys = 0;
  for (const auto& [key, value] : file.metadata().entries()) {
    if (!key.starts_with("tokenizer.")) continue;
    ++n_keys;
    const io::GgufValue* mine = ours.find(key);
    ASSERT_NE(mine, nullptr) << key;
    EXPECT_EQ(mine->index(), value.index()) << key << " has another type";
    EXPECT_TRUE(*mine == value) << key;
  }
  EXPECT_EQ(n_keys, 11u);
  EXPECT_EQ(ours.entries().size(), n_keys) << "a key that llama.cpp does not write";
  EXPECT_EQ(vocab.eog, (std::vector<Token>{4089, 4092}));
}

TEST(VocabGguf, EveryVocabularySurvivesTheWayThroughGguf) {
  SHOEHORN_SHARED(tokenizers, "data/tokenizers");
  for (const char* name : {"llama2", "qwen2", "tinyllama", "smollm2"}) {
    SCOPED_TRACE(name);
    ASSERT_EXPECTED(const Vocab vocab, load(name));
    io::GgufMetadata metadata;
    vocab_to_gguf(vocab, metadata);
    ASSERT_EXPECTED(const Vocab back, vocab_from_gguf(metadata));
    expect_same(vocab, back);
  }
}

TEST(VocabGguf, KeepsEndTokensThatTheirTextDoesNotShow) {
  Vocab vocab;
  vocab.pre = "gpt-2";
  vocab.tokens = {"a", "stop", "</s>"};
  vocab.types = {TokenType::kNormal, TokenType::kNormal, TokenType::kControl};
  vocab.eos = 2;
  vocab.eog = {1, 2};
  vocab.rstrip = {2};
  io::GgufMetadata metadata;
  vocab_to_gguf(vocab, metadata);
  EXPECT_TRUE(metadata.contains("shoehorn.tokenizer.eog_token_ids"));
  ASSERT_EXPECTED(const Vocab back, vocab_from_gguf(metadata));
  expect_same(vocab, back);
}

/// A small valid file's metadata, to be bent.
io::GgufMetadata small_bpe() {
  io::GgufMetadata m;
  m.set("tokenizer.ggml.model", std::string("gpt2"));
  m.set("tokenizer.ggml.pre", std::string("gpt-2"));
  m.set("tokenizer.ggml.tokens", io::GgufArray(std::vector<std::string>{"a", "b", "ab", "<s>"}));
  m.set("tokenizer.ggml.token_type", io::GgufArray(std::vector<int32_t>{1, 1, 1, 3}));
  m.set("tokenizer.ggml.merges", io::GgufArray(std::vector<std::string>{"a b"}));
  m.set("tokenizer.ggml.bos_token_id", uint32_t{3});
  return m;
}

io::GgufMetadata small_spm() {
  io::GgufMetadata m;
  m.set("tokenizer.ggml.model", std::string("llama"));
  m.set("tokenizer.ggml.tokens", io::GgufArray(std::vector<std::string>{"<unk>", "<s>", "</s>", "<0x0A>", "▁", "a"}));
  m.set("tokenizer.ggml.scores", io::GgufArray(std::vector<float>{0, 0, 0, 0, -1, -2}));
  m.set("tokenizer.ggml.token_type", io::GgufArray(std::vector<int32_t>{2, 3, 3, 6, 1, 1}));
  return m;
}

TEST(VocabGguf, ReadsSmallFilesAndLlamaCppsDefaults) {
  ASSERT_EXPECTED(const Vocab bpe, vocab_from_gguf(small_bpe()));
  EXPECT_EQ(bpe.bos, 3);
  EXPECT_FALSE(bpe.add_bos);
  ASSERT_EXPECTED(const Vocab spm, vocab_from_gguf(small_spm()));
  EXPECT_EQ(spm.bos, 1);
  EXPECT_EQ(spm.eos, 2);
  EXPECT_TRUE(spm.add_bos);
  EXPECT_TRUE(spm.add_space_prefix);
  io::GgufMetadata llama3 = small_bpe();
  llama3.set("tokenizer.ggml.pre", std::string("llama-bpe"));
  ASSERT_EXPECTED(const Vocab with_bos, vocab_from_gguf(llama3));
  EXPECT_TRUE(with_bos.add_bos);
  io::GgufMetadata absent = small_bpe();
  absent.set("tokenizer.ggml.padding_token_id", uint32_t{0xffffffff});
  ASSERT_EXPECTED(const Vocab without_pad, vocab_from_gguf(absent));
  EXPECT_FALSE(without_pad.pad.has_value());
}

struct Bent {
  const char* name;
  bool spm;
  const char* key;
  io::GgufValue value;
  const char* message;  // what the error must name
};

TEST(VocabGguf, HostileValuesAreErrorsThatNameThem) {
  using Strings = std::vector<std::string>;
  using Ints = std::vector<int32_t>;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<Bent> cases = {
      {"unknown model", false, "tokenizer.ggml.model", std::string("bert"), "bert"},
      {"model of another kind", false, "tokenizer.ggml.model", uint32_t{1}, "tokenizer.ggml.model"},
      {"unknown pre-tokenizer", false, "tokenizer.ggml.pre", std::string("martian"), "martian"},
      {"tokens of another kind", false, "tokenizer.ggml.tokens", io::GgufArray(Ints{1}), "tokenizer.ggml.tokens"},
      {"no tokens", false, "tokenizer.ggml.tokens", io::GgufArray(Strings{}), "tokenizer.ggml.token_type"},
      {"too few types", false, "tokenizer.ggml.token_type", io::GgufArray(Ints{1}), "tokenizer.ggml.token_type"},
      {"a type out of range", false, "tokenizer.ggml.token_type", io::GgufArray(Ints{1, 1, 1, 77}), "77"},
      {"a type below the range", false, "tokenizer.ggml.token_type", io::GgufArray(Ints{1, 1, 1, -1}), "-1"},
      {"a token twice", false, "tokenizer.ggml.tokens", io::GgufArray(Strings{"a", "b", "ab", "b"}), "\"b\""},
      {"an id out of range", false, "tokenizer.ggml.bos_token_id", uint32_t{4}, "bos_token_id"},
      {"a huge id", false, "tokenizer.ggml.eos_token_id", uint64_t{1} << 40, "eos_token_id"},
      {"a negative id", false, "tokenizer.ggml.eot_token_id", int32_t{-7}, "eot_token_id"},
      {"an id that is a text", false, "tokenizer.ggml.padding_token_id", std::string("3"), "padding_token_id"},
      {"an end token out of range", false, "shoehorn.tokenizer.eog_token_ids", io::GgufArray(Ints{9}), "eog_token_ids"},
      {"merges of another kind", false, "tokenizer.ggml.merges", std::string("a b"), "tokenizer.ggml.merges"},
      {"too few scores", true, "tokenizer.ggml.scores", io::GgufArray(std::vector<float>{1}), "tokenizer.ggml.scores"},
      {"a score that is no number", true, "tokenizer.ggml.scores",
       io::GgufArray(std::vector<float>{0, 0, 0, 0, nan, 0}), "score of token 4"},
      {"a byte token of no byte", true, "tokenizer.ggml.tokens",
       io::GgufArray(Strings{"<unk>", "<s>", "</s>", "<0x-1>", "▁", "a"}), "<0x-1>"},
      {"a byte token cut short", true, "tokenizer.ggml.tokens",
       io::GgufArray(Strings{"<unk>", "<s>", "</s>", "<0", "▁", "a"}), "<0"},
  };
  for (const Bent& bent : cases) {
    SCOPED_TRACE(bent.name);
    io::GgufMetadata metadata = bent.spm ? small_spm() : small_bpe();
    metadata.set(bent.key, bent.value);
    const auto vocab = vocab_from_gguf(metadata);
    ASSERT_FALSE(vocab.has_value());
    EXPECT_NE(vocab.error().message.find(bent.message), std::string::npos) << vocab.error().message;
  }
  for (const char* key : {"tokenizer.ggml.model", "tokenizer.ggml.tokens", "tokenizer.ggml.merges"}) {
    io::GgufMetadata metadata = small_bpe();
    metadata.erase(key);
    const auto vocab = vocab_from_gguf(metadata);
    ASSERT_FALSE(vocab.has_value()) << key;
    EXPECT_NE(vocab.error().message.find(key), std::string::npos) << vocab.error().message;
  }
}

TEST(VocabGguf, MergesThatNameNoTokenAreRefusedByTheTokenizer) {
  for (const char* merge : {"a x", "b a", "ab", "", " ", "a  b"}) {
    io::GgufMetadata metadata = small_bpe();
    metadata.set("tokenizer.ggml.merges", io::GgufArray(std::vector<std::string>{merge}));
    ASSERT_EXPECTED(auto vocab, vocab_from_gguf(metadata));
    const auto tokenizer = Tokenizer::create(std::move(vocab));
    ASSERT_FALSE(tokenizer.has_value()) << merge;
    EXPECT_NE(tokenizer.error().message.find("merge 0"), std::string::npos) << tokenizer.error().message;
  }
}

TEST(VocabGguf, EmptyTokensAndEmptySpecialTokensDoNoHarm) {
  io::GgufMetadata metadata = small_bpe();
  metadata.set("tokenizer.ggml.tokens", io::GgufArray(std::vector<std::string>{"a", "b", "ab", ""}));
  ASSERT_EXPECTED(auto vocab, vocab_from_gguf(metadata));
  ASSERT_EXPECTED(const Tokenizer tokenizer, Tokenizer::create(std::move(vocab)));
  EXPECT_EQ(tokenizer.encode("abba", {.add_special = false}), (std::vector<Token>{2, 1, 0}));
}

}  // namespace
}  // namespace shoehorn::tokenizer::test
