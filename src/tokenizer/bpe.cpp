#include "tokenizer/bpe.h"

#include "tokenizer/byte_level.h"

namespace shoehorn::tokenizer {

Expected<BpeModel> BpeModel::create(const Vocab& vocab, const std::vector<std::string>& pieces) {
  BpeModel model;
  model.pretokenizer_ = find_pretokenizer(vocab.pre);
  if (model.pretokenizer_ == nullptr)
    return fail(ErrorCode::kUnsupported, "pre-tokenizer {:?} is not supported", vocab.pre);
  std::unordered_map<std::string_view, Token> ids;
  ids.reserve(vocab.tokens.size());
  for (size_t i = 0; i < vocab.tokens.size(); ++i) ids.emplace(vocab.tokens[i], static_cast<Token>(i));

  for (size_t byte = 0; byte < 256; ++byte) {
    const auto it = ids.find(byte_level_encode(std::string(1, static_cast<char>(byte))));
    // An added token may be spelled like a byte of the alphabet; only trained tokens stand for bytes.
    const bool found = it != ids.end() && vocab.types[it->second] == TokenType::kNormal;
    model.bytes_[byte] = found ? it->second : -1;
  }
  if (model.pretokenizer_->ignore_merges) {
    for (size_t i = 0; i < vocab.tokens.size(); ++i) {
      if (vocab.types[i] == TokenType::kNormal) model.whole_.emplace(pieces[i], static_cast<Token>(i));
    }
  }

  model.merger_ = PairMerger(vocab.merges.size());
  std::string joined;
  for (size_t rank = 0; rank < vocab.merges.size(); ++rank) {
    const std::string_view merge = vocab.merges[rank];
    const size_t space = merge.find(' ', 1);
    if (space == std::string_view::npos) return fail(ErrorCode::kInvalid, "merge {} {:?}: not a pair", rank, merge);
    const std::string_view left = merge.substr(0, space), right = merge.substr(space + 1);
    joined.assign(left).append(right);
    Symbol symbols[3];
    size_t n = 0;
    for (const std::string_view text : {left, right, std::string_view(joined)}) {
      const auto it = ids.find(text);
      if (it == ids.end()) return fail(ErrorCode::kInvalid, "merge {} {:?}: {:?} is no token", rank, merge, text);
      symbols[n++] = it->second;
    }
    model.merger_.add(symbols[0], symbols[1], static_cast<uint32_t>(rank), symbols[2]);
  }
  return model;
}

void BpeModel::encode(std::string_view text, std::vector<Token>& out) const {
  MergeScratch scratch;
  std::vector<Symbol> symbols;
  size_t begin = 0;
  for (const size_t end : split(*pretokenizer_, text)) {
    const std::string_view piece = text.substr(begin, end - begin);
    begin = end;
    if (pretokenizer_->ignore_merges) {
      if (const auto it = whole_.find(piece); it != whole_.end()) {
        out.push_back(it->second);
        continue;
      }
    }
    symbols.clear();
    for (const char c : piece) symbols.push_back(bytes_[static_cast<uint8_t>(c)]);
    merger_.merge(symbols, scratch);
    for (const Symbol symbol : symbols) {
      if (symbol >= 0) out.push_back(symbol);
    }
  }
}

}  // namespace shoehorn::tokenizer
