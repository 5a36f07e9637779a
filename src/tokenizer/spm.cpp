#include "tokenizer/spm.h"

#include <algorithm>
#include <limits>

#include "tokenizer/unicode.h"
#include "tokenizer/vocab_parts.h"

namespace shoehorn::tokenizer {
namespace {

constexpr std::string_view kSpmSpace = "▁";

// Finding a token's splits is quadratic in its length; SentencePiece's own limit is 16 characters by default.
constexpr size_t kMaxSplitBytes = 1024;

/// The length of the character at text[pos]; a byte that is not part of valid UTF-8 is a character of its own.
size_t character_bytes(std::string_view text, size_t pos) {
  uint32_t cp;
  return std::max<size_t>(1, utf8_sequence(text, pos, cp));
}

bool merges(TokenType type) {
  return type == TokenType::kNormal || type == TokenType::kUserDefined || type == TokenType::kUnused;
}

}  // namespace

Expected<SpmModel> SpmModel::create(const Vocab& vocab) {
  SpmModel model;
  model.n_vocab_ = static_cast<Token>(vocab.tokens.size());
  model.unk_ = vocab.unk;
  model.bytes_.fill(-1);
  std::unordered_map<std::string_view, Symbol> symbols;
  symbols.reserve(2 * vocab.tokens.size());
  std::vector<float> scores;
  for (Token id = 0; id < model.n_vocab_; ++id) {
    const std::string& text = vocab.tokens[id];
    if (vocab.types[id] == TokenType::kByte) model.bytes_[*byte_token_value(text)] = id;
    if (!merges(vocab.types[id]) || text.empty()) continue;
    if (text.size() > kMaxSplitBytes) {
      return fail(ErrorCode::kInvalid, "token {} has {} bytes, at most {} are supported", id, text.size(),
                  kMaxSplitBytes);
    }
    symbols.emplace(text, id);
    scores.push_back(vocab.scores[id]);
  }
  std::sort(scores.begin(), scores.end(), std::greater<>());
  scores.erase(std::unique(scores.begin(), scores.end()), scores.end());

  // Characters that occur in tokens are symbols even when they are no token themselves.
  std::vector<std::pair<std::string_view, Symbol>> characters;
  for (Token id = 0; id < model.n_vocab_; ++id) {
    if (!merges(vocab.types[id])) continue;
    const std::string_view text = vocab.tokens[id];
    for (size_t pos = 0; pos < text.size();) {
      const std::string_view character = text.substr(pos, character_bytes(text, pos));
      pos += character.size();
      const auto [it, inserted] = symbols.emplace(character, model.n_vocab_ + static_cast<Symbol>(model.extra_.size()));
      if (inserted) model.extra_.emplace_back(character);
    }
  }
  for (const auto& [text, symbol] : symbols) {
    if (character_bytes(text, 0) == text.size()) characters.emplace_back(text, symbol);
  }
  model.characters_text_.reserve(characters.size());
  for (const auto& [text, symbol] : characters) {
    model.characters_.emplace(model.characters_text_.emplace_back(text), symbol);
  }

  for (Token id = 0; id < model.n_vocab_; ++id) {
    if (!merges(vocab.types[id])) continue;
    const std::string_view text = vocab.tokens[id];
    const auto rank = static_cast<uint32_t>(
        std::lower_bound(scores.begin(), scores.end(), vocab.scores[id], std::greater<>()) - scores.begin());
    for (size_t pos = 0; pos < text.size();) {
      pos += character_bytes(text, pos);
      if (pos >= text.size()) break;
      const auto left = symbols.find(text.substr(0, pos));
      if (left == symbols.end()) continue;
      const auto right = symbols.find(text.substr(pos));
      if (right != symbols.end()) model.merger_.add(left->second, right->second, rank, id);
    }
  }
  return model;
}

void SpmModel::encode(std::string_view text, bool space_prefix, std::vector<Token>& out) const {
  std::string escaped;
  escaped.reserve(text.size() + text.size() / 2 + kSpmSpace.size());
  if (space_prefix) escaped += kSpmSpace;
  for (const char c : text) {
    if (c == ' ') {
      escaped += kSpmSpace;
    } else {
      escaped += c;
    }
  }

  // An unknown character is a negative symbol that says where it stands.
  std::vector<Symbol> symbols;
  const std::string_view all = escaped;
  for (size_t pos = 0; pos < all.size();) {
    const size_t n = character_bytes(all, pos);
    const auto it = characters_.find(all.substr(pos, n));
    symbols.push_back(it != characters_.end() ? it->second : -1 - static_cast<Symbol>(pos));
    pos += n;
  }
  MergeScratch scratch;
  merger_.merge(symbols, scratch);

  bool after_unknown = false;
  for (const Symbol symbol : symbols) {
    if (symbol >= 0 && symbol < n_vocab_) {
      out.push_back(symbol);
      after_unknown = false;
      continue;
    }
    std::string_view character;
    if (symbol >= 0) {
      character = extra_[static_cast<size_t>(symbol - n_vocab_)];
    } else {
      const auto pos = static_cast<size_t>(-(symbol + 1));
      character = all.substr(pos, character_bytes(all, pos));
    }
    const bool has_bytes =
        std::all_of(character.begin(), character.end(), [&](char c) { return bytes_[static_cast<uint8_t>(c)] >= 0; });
    if (has_bytes) {
      for (const char c : character) out.push_back(bytes_[static_cast<uint8_t>(c)]);
    } else if (unk_ && !after_unknown) {
      out.push_back(*unk_);
    }
    after_unknown = !has_bytes;
  }
}

}  // namespace shoehorn::tokenizer
