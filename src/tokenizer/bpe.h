// Byte-level BPE (GPT-2's): pre-tokenizer, then merges of bytes within each piece.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tokenizer/merger.h"
#include "tokenizer/pretokenizer.h"
#include "tokenizer/vocab.h"

namespace shoehorn::tokenizer {

class BpeModel {
 public:
  /// `pieces` are the bytes of the tokens; the model keeps views into them. Fails when the pre-tokenizer is unknown or
  /// a merge names no token.
  static Expected<BpeModel> create(const Vocab& vocab, const std::vector<std::string>& pieces);

  /// Appends the tokens of a text without special tokens. Bytes that are no token themselves and were not merged are
  /// dropped, as the models' own tokenizers do. Text must be shorter than 2 GiB.
  void encode(std::string_view text, std::vector<Token>& out) const;

 private:
  const PreTokenizer* pretokenizer_ = nullptr;
  std::array<Symbol, 256> bytes_{};
  std::unordered_map<std::string_view, Token> whole_;  // normal tokens by their bytes; only with ignore_merges
  PairMerger merger_;
};

}  // namespace shoehorn::tokenizer
