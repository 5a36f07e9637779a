// Which tokens may come next.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "grammar/automaton.h"
#include "tokenizer/tokenizer.h"

namespace shoehorn::grammar {

/// A vocabulary's texts in the order of their bytes, so that tokens that begin alike are looked at together. Control
/// tokens have none. Immutable; made once for a model.
class TokenTexts {
 public:
  explicit TokenTexts(const tokenizer::Tokenizer& tokenizer);

  struct Entry {
    tokenizer::Token token;
    uint32_t begin, size;  ///< its bytes()
    uint32_t common;       ///< how many of them are those of the entry before
  };
  const std::vector<Entry>& entries() const { return entries_; }
  std::string_view bytes(const Entry& entry) const { return std::string_view(bytes_).substr(entry.begin, entry.size); }
  /// Entries are named by token; no entry: size().
  size_t entry_of(tokenizer::Token token) const { return numbers_[static_cast<size_t>(token)]; }
  const std::vector<tokenizer::Token>& ends() const { return ends_; }
  size_t n_vocab() const { return numbers_.size(); }

 private:
  std::string bytes_;
  std::vector<Entry> entries_;
  std::vector<size_t> numbers_;
  std::vector<tokenizer::Token> ends_;  // tokens that end a generation
};

/// What an answer has to look like, for a model. Immutable: any number of answers share it.
struct TokenGrammar {
  std::shared_ptr<const Grammar> grammar;
  std::shared_ptr<const TokenTexts> texts;
};

/// parse_gbnf() for a model. kInvalid, too, when no text belongs to the grammar.
Expected<std::shared_ptr<const TokenGrammar>> token_grammar(std::string_view gbnf,
                                                            std::shared_ptr<const TokenTexts> texts);

/// One answer on its way through a grammar.
class Constraint {
 public:
  explicit Constraint(std::shared_ptr<const TokenGrammar> grammar);

  /// Sets logits [n_vocab] of tokens that cannot come next to minus infinity. Where the text may end, tokens that end a
  /// generation can come; when nothing else can, they alone.
  void mask(std::span<float> logits);
  /// Tells of the token that came.
  void accept(tokenizer::Token token);
  /// Whether what has come is a whole text of the grammar.
  bool complete() const { return automaton_.accepts(state_); }
  /// Whether the text can go on.
  bool goes_on() const { return automaton_.goes_on(state_); }

 private:
  using Bits = std::vector<uint64_t>;
  const Bits& allowed();

  std::shared_ptr<const TokenGrammar> grammar_;
  Automaton automaton_;
  Automaton::State state_;
  std::unordered_map<Automaton::State, Bits> known_;  // the entries that a state allows
};

}  // namespace shoehorn::grammar
