#include <filesystem>
#include <random>

#include "tokenizer_support.h"

namespace shoehorn::tokenizer::test {
namespace {

constexpr EncodeOptions kPlain{.add_special = false, .parse_special = false};

std::vector<std::string> text_files() {
  std::vector<std::string> out;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(shared_path("data/text"))) {
    if (entry.is_regular_file()) out.push_back(entry.path().string());
  }
  std::sort(out.begin(), out.end());
  return out;
}

class RoundTrip : public testing::TestWithParam<size_t> {};

TEST_P(RoundTrip, DecodingGivesEveryTextBack) {
  SHOEHORN_SHARED(directory, "data/text");
  SHOEHORN_SHARED(tokenizers, "data/tokenizers");
  const Source& source = sources()[GetParam()];
  ASSERT_EXPECTED(auto vocab, source.load());
  ASSERT_EXPECTED(const Tokenizer tokenizer, Tokenizer::create(std::move(vocab)));
  // Every file by some tokenizer, each tokenizer on a stretch of every file.
  const auto files = text_files();
  ASSERT_GE(files.size(), 15u);
  for (size_t i = 0; i < files.size(); ++i) {
    std::string text = read_text(files[i]);
    const size_t limit = i % sources().size() == GetParam() ? 400'000 : 40'000;
    if (text.size() > limit)
      text = text.substr((text.size() - limit) / 2, limit);  // may cut a character: bytes survive too
    EXPECT_TRUE(tokenizer.decode(tokenizer.encode(text, kPlain)) == text) << source.name << " on " << files[i];
  }
}

INSTANTIATE_TEST_SUITE_P(Sources, RoundTrip, testing::Range<size_t>(0, 15), [](const auto& test) {
  std::string name = sources()[test.param].name;
  for (char& c : name) c = c == '-' ? '_' : c;
  return name;
});

TEST(RoundTripOfBytes, SurvivesWhatIsNotUtf8) {
  SHOEHORN_SHARED(tokenizers, "data/tokenizers");
  for (const char* name : {"llama2", "gpt2-files", "llama3"}) {
    ASSERT_EXPECTED(auto vocab, load(name));
    ASSERT_EXPECTED(const Tokenizer tokenizer, Tokenizer::create(std::move(vocab)));
    std::mt19937 random(3);
    for (int i = 0; i < 200; ++i) {
      std::string text;
      for (size_t n = random() % 200; n > 0; --n) text += static_cast<char>(random() % 256);
      ASSERT_EQ(tokenizer.decode(tokenizer.encode(text, kPlain)), text) << name;
    }
  }
}

TEST(Tokenizer, PiecesOfAStreamAddUpToTheText) {
  SHOEHORN_SHARED(tokenizers, "data/tokenizers");
  for (const char* name : {"llama2", "llama3"}) {
    ASSERT_EXPECTED(auto vocab, load(name));
    ASSERT_EXPECTED(const Tokenizer tokenizer, Tokenizer::create(std::move(vocab)));
    const std::string text = "Grüße, 世界! 🦙 \u0301";
    std::string streamed;
    for (const Token token : tokenizer.encode(text)) streamed += tokenizer.piece(token);
    EXPECT_EQ(streamed, tokenizer.vocab().add_space_prefix ? " " + text : text);
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
  }
}

TEST(Tokenizer, ControlTokensHaveAPieceOnlyOnRequest) {
  SHOEHORN_SHARED(tokenizers, "data/tokenizers");
  ASSERT_EXPECTED(auto vocab, load("llama3"));
  ASSERT_EXPECTED(const Tokenizer tokenizer, Tokenizer::create(std::move(vocab)));
  EXPECT_EQ(tokenizer.piece(128009), "");
  EXPECT_EQ(tokenizer.piece(128009, true), "<|eot_id|>");
  EXPECT_EQ(tokenizer.piece(-1, true), "");
  EXPECT_EQ(tokenizer.piece(128256, true), "");
  EXPECT_TRUE(tokenizer.is_eog(128009));
  EXPECT_FALSE(tokenizer.is_eog(128006));
}

TEST(Tokenizer, LongLinesWithoutSpacesGetTheSameTokensAsTheirParts) {
  SHOEHORN_SHARED(tokenizers, "data/tokenizers");
  // "Ġ"-less words of one letter class cannot be cut by any pre-tokenizer. A token never spans "xq" + "xq" here by more
  // than the vocabulary's longest, so a long run of a period repeats its tokens.
  for (const char* name : {"gpt2-files", "llama2"}) {
    ASSERT_EXPECTED(auto vocab, load(name));
    ASSERT_EXPECTED(const Tokenizer tokenizer, Tokenizer::create(std::move(vocab)));
    std::string text;
    while (text.size() < 300'000) text += "zqxjkvwzzq";
    const std::vector<Token> once = tokenizer.encode(text, kPlain);
    const std::vector<Token> twice = tokenizer.encode(text + text, kPlain);
    EXPECT_EQ(tokenizer.decode(once), text);
    EXPECT_EQ(tokenizer.decode(twice), text + text);
    // Beyond the first and last few tokens nothing depends on where the line begins or ends.
    ASSERT_GT(once.size(), 1000u);
    EXPECT_TRUE(std::equal(once.begin(), once.end() - 20, twice.begin())) << name;
    EXPECT_TRUE(std::equal(once.rbegin(), once.rend() - 20, twice.rbegin())) << name;
  }
}

}  // namespace
}  // namespace shoehorn::tokenizer::test
