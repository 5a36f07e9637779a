#include "grammar/token_grammar.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "grammar/gbnf.h"
#include "grammar/json_schema.h"
#include "support/support.h"
#include "tokenizer/vocab.h"

namespace shoehorn::grammar {
namespace {

using tokenizer::Token;
using tokenizer::Tokenizer;

Expected<Tokenizer> tokenizer_of(const std::string& directory) {
  SHOEHORN_TRY(auto vocab, tokenizer::vocab_from_directory(directory, 0));
  return Tokenizer::create(std::move(vocab));
}

/// Walks through texts of the grammar, and compares what may come next with what each token's bytes do.
void expect_masks(const Tokenizer& tokenizer, const std::string& gbnf, int n_texts, int n_tokens) {
  const auto texts = std::make_shared<const TokenTexts>(tokenizer);
  ASSERT_EXPECTED(const auto grammar, token_grammar(gbnf, texts));
  ASSERT_EXPECTED(Grammar plain, parse_gbnf(gbnf));
  Automaton automaton(std::make_shared<const Grammar>(std::move(plain)));
  std::mt19937 random(1);
  size_t n_allowed = 0;
  for (int text = 0; text < n_texts; ++text) {
    Constraint constraint(grammar);
    Automaton::State state = automaton.start();
    for (int i = 0; i < n_tokens; ++i) {
      std::vector<float> logits(static_cast<size_t>(tokenizer.n_vocab()), 1);
      constraint.mask(logits);
      ASSERT_EQ(constraint.complete(), automaton.accepts(state));
      std::vector<Token> may;
      for (Token token = 0; token < tokenizer.n_vocab(); ++token) {
        const std::string piece = tokenizer.piece(token);
        Automaton::State after = state;
        for (const char byte : piece) after = automaton.next(after, static_cast<uint8_t>(byte));
        const bool expected =
            tokenizer.is_eog(token) ? automaton.accepts(state) : !piece.empty() && after != Automaton::kDead;
        ASSERT_EQ(std::isfinite(logits[static_cast<size_t>(token)]), expected)
            << "token " << token << " \"" << piece << "\"";
        if (expected && !tokenizer.is_eog(token)) may.push_back(token);
      }
      n_allowed += may.size();
      if (may.empty()) break;
      const Token token = may[random() % may.size()];
      constraint.accept(token);
      for (const char byte : tokenizer.piece(token)) state = automaton.next(state, static_cast<uint8_t>(byte));
    }
  }
  EXPECT_GT(n_allowed, 0u);
}

const char* kSchema =
    R"({"type": "object", "properties": {"name": {"type": "string", "maxLength": 20}, "n": {"type": "array", "items": {"type": "integer"}}}, "required": ["name", "n"]})";

TEST(TokenGrammar, MasksAreWhatEachTokensBytesDo) {
  ASSERT_EXPECTED(const Tokenizer tokenizer, tokenizer_of(test::source_dir() + "/models/fable-10m"));
  ASSERT_EXPECTED(const std::string json, gbnf_of_schema(nlohmann::ordered_json::parse(kSchema)));
  expect_masks(tokenizer, json, 4, 40);
  expect_masks(tokenizer, "root ::= (\"Once \" [a-z]+ (\" \" | \", \"))+ \".\"", 4, 20);
  expect_masks(tokenizer, "root ::= \"\xC3\xA4\"+ | [^\\x00-\\x7F]", 2, 4);
}

TEST(TokenGrammar, OfALargeVocabulary) {
  SHOEHORN_SHARED(directory, "data/tokenizers/gpt2");
  ASSERT_EXPECTED(const Tokenizer tokenizer, tokenizer_of(directory));
  ASSERT_EXPECTED(const std::string json, gbnf_of_schema(nlohmann::ordered_json::parse(kSchema)));
  expect_masks(tokenizer, json, 1, 20);
}

TEST(TokenGrammar, GrammarsWithoutATextAreRefused) {
  ASSERT_EXPECTED(const Tokenizer tokenizer, tokenizer_of(test::source_dir() + "/models/fable-10m"));
  const auto texts = std::make_shared<const TokenTexts>(tokenizer);
  const auto none = token_grammar("root ::= a\na ::= a", texts);
  ASSERT_FALSE(none.has_value());
  EXPECT_EQ(none.error().message, "grammar: no text can belong to it");
}

// Long texts make more states than are kept; what may come stays the same.
TEST(TokenGrammar, LongTexts) {
  ASSERT_EXPECTED(const Tokenizer tokenizer, tokenizer_of(test::source_dir() + "/models/fable-10m"));
  const auto texts = std::make_shared<const TokenTexts>(tokenizer);
  ASSERT_EXPECTED(const auto grammar, token_grammar("root ::= \"a\"{20000} \"b\"", texts));
  Constraint constraint(grammar);
  std::vector<Token> as;
  for (Token token = 0; token < tokenizer.n_vocab(); ++token) {
    if (tokenizer.piece(token) == "a") as.push_back(token);
  }
  ASSERT_FALSE(as.empty());
  std::vector<float> logits(static_cast<size_t>(tokenizer.n_vocab()));
  for (int i = 0; i < 20'000; ++i) {
    if (i % 100 == 0) {
      std::fill(logits.begin(), logits.end(), 0.0f);
      constraint.mask(logits);
      ASSERT_TRUE(std::isfinite(logits[static_cast<size_t>(as[0])])) << i;
    }
    constraint.accept(as[0]);
  }
  EXPECT_FALSE(constraint.complete());
  std::fill(logits.begin(), logits.end(), 0.0f);
  constraint.mask(logits);
  EXPECT_FALSE(std::isfinite(logits[static_cast<size_t>(as[0])]));
}

}  // namespace
}  // namespace shoehorn::grammar
