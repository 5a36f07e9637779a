#include "eval/chunks.h"

namespace shoehorn::eval {

using tokenizer::Token;

Expected<Chunks> Chunks::cut(const tokenizer::Tokenizer& tokenizer, std::string_view text, size_t chunk_size,
                             bool parse_special) {
  Chunks chunks;
  chunks.tokenizer_ = &tokenizer;
  chunks.chunk_size_ = chunk_size;
  chunks.tokens_ = tokenizer.encode(text, {.add_special = true, .parse_special = parse_special});
  if (chunks.size() < 2) {
    return fail(ErrorCode::kInvalid, "the text has {} tokens, at least {} are needed for a context of {}",
                chunks.tokens_.size(), 2 * chunk_size, chunk_size);
  }
  return chunks;
}

std::vector<Token> Chunks::operator[](size_t i) const {
  const auto begin = tokens_.begin() + static_cast<std::ptrdiff_t>(i * chunk_size_);
  std::vector<Token> ids(begin, begin + static_cast<std::ptrdiff_t>(chunk_size_));
  const tokenizer::Vocab& vocab = tokenizer_->vocab();
  if (vocab.add_bos && vocab.bos) ids[0] = *vocab.bos;
  return ids;
}

}  // namespace shoehorn::eval
