#include "tokenizer/special_tokens.h"

#include "tokenizer_support.h"

namespace shoehorn::tokenizer::test {
namespace {

Vocab vocab_of(const std::vector<std::pair<std::string, TokenType>>& tokens) {
  Vocab vocab;
  vocab.pre = "gpt-2";
  for (const auto& [text, type] : tokens) {
    vocab.tokens.push_back(text);
    vocab.types.push_back(type);
  }
  return vocab;
}

std::string shown(const Vocab& vocab, std::string_view text, bool parse_special) {
  std::string out;
  for (const Fragment& fragment : SpecialTokens(vocab).partition(text, parse_special)) {
    out += fragment.token < 0 ? fmt::format("[{}]", fragment.text) : fmt::format("{}", fragment.token);
  }
  return out;
}

TEST(SpecialTokens, ControlTokensAreParsedOnRequestAndUserDefinedOnesAlways) {
  const Vocab vocab =
      vocab_of({{"<s>", TokenType::kControl}, {"<u>", TokenType::kUserDefined}, {"<n>", TokenType::kNormal}});
  EXPECT_EQ(shown(vocab, "a<s>b<u>c<n>", true), "[a]0[b]1[c<n>]");
  EXPECT_EQ(shown(vocab, "a<s>b<u>c<n>", false), "[a<s>b]1[c<n>]");
  EXPECT_EQ(shown(vocab, "<s><s>", true), "00");
  EXPECT_EQ(shown(vocab, "", true), "");
}

TEST(SpecialTokens, TheLongestAtAPositionWins) {
  const Vocab vocab =
      vocab_of({{"  ", TokenType::kUserDefined}, {"    ", TokenType::kUserDefined}, {"   !", TokenType::kControl}});
  EXPECT_EQ(shown(vocab, "       x", false), "10[ x]");
  EXPECT_EQ(shown(vocab, "   !", true), "2");
  // The control token does not hide the shorter one when it is not parsed.
  EXPECT_EQ(shown(vocab, "   !", false), "0[ !]");
}

TEST(SpecialTokens, SwallowTheWhiteSpaceTheyStrip) {
  Vocab vocab = vocab_of({{"<l>", TokenType::kControl}, {"<r>", TokenType::kControl}});
  vocab.lstrip = {0};
  vocab.rstrip = {1};
  EXPECT_EQ(shown(vocab, "a \n<l> b", true), "[a]0[ b]");
  EXPECT_EQ(shown(vocab, "a <r> \n b", true), "[a ]1[b]");
  EXPECT_EQ(shown(vocab, "<r>  <l>", true), "10");
}

TEST(SpecialTokens, Phi3FilesStripTheSpaceAfterTheirTokens) {
  SHOEHORN_SHARED(tokenizers, "data/tokenizers");
  ASSERT_EXPECTED(auto vocab, load("phi-3"));
  ASSERT_EXPECTED(const Tokenizer tokenizer, Tokenizer::create(std::move(vocab)));
  const auto ids = [&](const char* text) { return tokenizer.encode(text, {.add_special = false}); };
  EXPECT_EQ(ids("<|user|>\n hi<|end|>"), ids("<|user|>hi<|end|>"));
  EXPECT_NE(ids("<s> hi"), ids("<s>hi"));
}

TEST(SpecialTokens, SentencePiecePutsASpaceAfterThem) {
  SHOEHORN_SHARED(tokenizers, "data/tokenizers");
  ASSERT_EXPECTED(auto vocab, load("llama2"));
  ASSERT_EXPECTED(const Tokenizer tokenizer, Tokenizer::create(std::move(vocab)));
  EXPECT_EQ(tokenizer.encode("I</s>I"), (std::vector<Token>{1, 306, 2, 306}));
  EXPECT_EQ(tokenizer.decode({1, 306, 2, 306}, true), "<s> I</s> I");
  EXPECT_EQ(tokenizer.decode({1, 306}), "I");
}

}  // namespace
}  // namespace shoehorn::tokenizer::test
