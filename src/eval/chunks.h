// A text as llama.cpp's perplexity and imatrix tools read it.
#pragma once

#include <string_view>
#include <vector>

#include "base/status.h"
#include "tokenizer/tokenizer.h"

namespace shoehorn::eval {

/// A text cut into whole chunks of `chunk_size` tokens that do not overlap. It is tokenized with BOS as the model says;
/// BOS, when the model adds it, then takes the place of the first token of every chunk.
class Chunks {
 public:
  /// Fails with kInvalid and the numbers when there are not two chunks. The tokenizer must outlive this.
  static Expected<Chunks> cut(const tokenizer::Tokenizer& tokenizer, std::string_view text, size_t chunk_size,
                              bool parse_special = false);

  size_t size() const { return tokens_.size() / chunk_size_; }
  size_t chunk_size() const { return chunk_size_; }
  /// [chunk_size]
  std::vector<tokenizer::Token> operator[](size_t i) const;
  /// All tokens of the text, as it was before BOS went into the chunks.
  const std::vector<tokenizer::Token>& tokens() const { return tokens_; }

 private:
  const tokenizer::Tokenizer* tokenizer_ = nullptr;
  size_t chunk_size_ = 0;
  std::vector<tokenizer::Token> tokens_;
};

}  // namespace shoehorn::eval
