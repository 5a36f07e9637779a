// SentencePiece BPE: merges of characters by the score of the resulting token, unknown characters as bytes.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tokenizer/merger.h"
#include "tokenizer/vocab.h"

namespace shoehorn::tokenizer {

class SpmModel {
 public:
  /// Fails when a token is too long to take part in merges.
  static Expected<SpmModel> create(const Vocab& vocab);

  /// Appends the tokens of a text without special tokens, with a space before it when `space_prefix`. Characters that
  /// are no token become their byte tokens or, without those, one unknown token per run; without that they are dropped.
  /// Text must be shorter than 512 MiB.
  void encode(std::string_view text, bool space_prefix, std::vector<Token>& out) const;

 private:
  Token n_vocab_ = 0;
  std::unordered_map<std::string_view, Symbol> characters_;  // views into characters_text_
  std::vector<std::string> characters_text_;
  std::vector<std::string> extra_;  // the text of symbol n_vocab_ + i
  std::array<Token, 256> bytes_{};
  std::optional<Token> unk_;
  PairMerger merger_;
};

}  // namespace shoehorn::tokenizer
