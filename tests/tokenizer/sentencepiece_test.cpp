#include <random>

#include "sentencepiece_fixture.h"
#include "tokenizer/vocab_parts.h"
#include "tokenizer_support.h"

namespace shoehorn::tokenizer::test {
namespace {

Expected<Vocab> read(const std::string& bytes_of_model, uint64_t n_vocab = 0) {
  const std::string directory = temp_dir();
  write_text(directory + "/tokenizer.model", bytes_of_model);
  return vocab_from_directory(directory, n_vocab);
}

TEST(SentencePiece, EveryTruncationIsAnError) {
  SHOEHORN_SHARED(path, "models/stories260K/tokenizer.model");
  const std::string whole = read_text(path);
  for (size_t n = 0; n <= whole.size(); ++n) {
    const std::string cut = whole.substr(0, n);  // its own allocation: a sanitizer sees a read past its end
    ASSERT_EQ(read_sentencepiece("cut.model", cut, 512).has_value(), n == whole.size())
        << n << " of " << whole.size() << " bytes";
  }
}

TEST(SentencePiece, GarbledBytesNeverCrash) {
  SHOEHORN_SHARED(path, "models/stories260K/tokenizer.model");
  const std::string whole = read_text(path);
  std::mt19937 random(5);
  for (int i = 0; i < 1500; ++i) {
    std::string garbled = whole;
    for (int n = 1 + static_cast<int>(random() % 4); n > 0; --n)
      garbled[random() % garbled.size()] = static_cast<char>(random());
    auto file = read_sentencepiece("garbled.model", garbled, 512);
    if (!file) continue;
    file->tokens.finish(512, file->vocab);
    const auto tokenizer = Tokenizer::create(std::move(file->vocab));
    if (tokenizer) tokenizer->decode(tokenizer->encode("Once upon a time\n🦙"));
  }
}

TEST(SentencePiece, ReadsPiecesAndTheSpacePrefix) {
  ASSERT_EXPECTED(const Vocab vocab, read(model(base_pieces()), 8));
  EXPECT_EQ(vocab.model, Model::kSpm);
  EXPECT_EQ(vocab.tokens.back(), "[PAD7]");
  EXPECT_EQ(vocab.types.back(), TokenType::kUnused);
  EXPECT_EQ(vocab.bos, 1);
  EXPECT_EQ(vocab.eos, 2);
  EXPECT_EQ(vocab.unk, 0);
  EXPECT_TRUE(vocab.add_bos);
  EXPECT_TRUE(vocab.add_space_prefix);
  ASSERT_EXPECTED(const Tokenizer tokenizer, Tokenizer::create(vocab));
  EXPECT_EQ(tokenizer.encode("aa a"), (std::vector<Token>{1, 3, 5, 3}));
  // Without byte tokens a run of unknown characters is one unknown token.
  EXPECT_EQ(tokenizer.encode("axya"), (std::vector<Token>{1, 3, 0, 5}));
  ASSERT_EXPECTED(const Vocab plain, read(model(base_pieces(), 2, number(3, 0))));
  EXPECT_FALSE(plain.add_space_prefix);
}

TEST(SentencePiece, OtherModelTypesAreRefusedByName) {
  for (const auto& [type, name] : {std::pair{1, "unigram"}, {3, "word"}, {4, "char"}, {9, "9"}}) {
    const auto vocab = read(model(base_pieces(), static_cast<uint64_t>(type)));
    ASSERT_FALSE(vocab.has_value());
    EXPECT_EQ(vocab.error().code, ErrorCode::kUnsupported);
    EXPECT_NE(vocab.error().message.find(name), std::string::npos) << vocab.error().message;
  }
}

TEST(SentencePiece, HostileModelsAreErrors) {
  const std::string huge_length = varint(1 << 3 | 2) + varint(uint64_t{1} << 62);
  const std::string endless_number = std::string("\x0a") + std::string(11, '\xff');
  EXPECT_FALSE(read(huge_length).has_value());
  EXPECT_FALSE(read(endless_number).has_value());
  EXPECT_FALSE(read(model(base_pieces() + piece("<0x-1>", 0, 6))).has_value());
  EXPECT_FALSE(read(model(base_pieces() + piece("a", 0, 1))).has_value()) << "a token twice";
  EXPECT_FALSE(read(model(base_pieces() + piece("b", 0, 99))).has_value());
  EXPECT_FALSE(read(model(base_pieces() + piece("b", std::numeric_limits<float>::infinity(), 1))).has_value());
  EXPECT_FALSE(read(model(base_pieces()), 5).has_value()) << "more pieces than the model has rows";
  EXPECT_FALSE(read(model(base_pieces() + bytes(1, number(1, 5)))).has_value()) << "a text that is a number";
  ASSERT_EXPECTED(auto vocab, read(model(base_pieces() + piece(std::string(5000, 'a'), 0, 1))));
  EXPECT_FALSE(Tokenizer::create(std::move(vocab)).has_value()) << "a token of 5000 bytes";
}

TEST(SentencePiece, TinyllamasTokenizerJsonSaysTheSameAsLlama2sModel) {
  SHOEHORN_SHARED(tokenizers, "data/tokenizers");
  SHOEHORN_SHARED(code, "data/text/exllamav3-cal/code.utf8");
  SHOEHORN_SHARED(languages, "data/text/exllamav3-cal/multilingual.utf8");
  ASSERT_EXPECTED(auto from_json, load("tinyllama"));
  ASSERT_EXPECTED(auto from_model, load("llama2"));
  EXPECT_TRUE(from_json.tokens == from_model.tokens);
  EXPECT_EQ(from_json.add_space_prefix, from_model.add_space_prefix);
  EXPECT_TRUE(from_json.add_bos);
  EXPECT_EQ(from_json.pad, 2);
  ASSERT_EXPECTED(const Tokenizer a, Tokenizer::create(std::move(from_json)));
  ASSERT_EXPECTED(const Tokenizer b, Tokenizer::create(std::move(from_model)));
  for (const std::string& path : {code, languages}) {
    const std::string text = read_text(path).substr(0, 200'000);
    EXPECT_TRUE(a.encode(text) == b.encode(text)) << path;
  }
}

}  // namespace
}  // namespace shoehorn::tokenizer::test
