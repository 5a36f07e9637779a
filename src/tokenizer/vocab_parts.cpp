#include "tokenizer/vocab_parts.h"

#include <algorithm>
#include <charconv>

namespace shoehorn::tokenizer {
namespace {

// Some models mark control tokens as not special; these are known by their looks.
bool looks_special(std::string_view text) {
  const auto framed = [text](std::string_view open, std::string_view close) {
    return text.size() >= open.size() + close.size() && text.starts_with(open) && text.ends_with(close);
  };
  return text == "<pad>" || text == "<mask>" || text == "<2mass>" || text == "[@BOS@]" || framed("<|", "|>") ||
         framed("<｜", "｜>") || framed("<unused", ">");
}

std::string with_plain_spaces(std::string_view text) {
  constexpr std::string_view kSpmSpace = "▁";
  std::string out;
  for (size_t pos; (pos = text.find(kSpmSpace)) != std::string_view::npos; text.remove_prefix(pos + kSpmSpace.size())) {
    out.append(text.substr(0, pos)).push_back(' ');
  }
  return out.append(text);
}

}  // namespace

Status VocabBuilder::reserve(uint64_t id) {
  if (id >= limit_) {
    return fail(ErrorCode::kInvalid, "token id {} is out of range: the model has {} tokens", id, limit_);
  }
  if (id >= tokens_.size()) {
    tokens_.resize(id + 1);
    types_.resize(id + 1, kHole);
    scores_.resize(id + 1, -10000.0f);
  }
  return {};
}

Status VocabBuilder::put(uint64_t id, std::string text, TokenType type, float score) {
  SHOEHORN_RETURN_IF_ERROR(reserve(id));
  if (types_[id] != kHole) return fail(ErrorCode::kInvalid, "token id {} is both {:?} and {:?}", id, tokens_[id], text);
  tokens_[id] = std::move(text);
  types_[id] = type;
  scores_[id] = score;
  return {};
}

Status VocabBuilder::add(const AddedToken& token) {
  SHOEHORN_RETURN_IF_ERROR(reserve(token.id));
  const bool control = token.special || looks_special(token.text);
  // User-defined tokens are found in the text as it comes, where a space is a space.
  tokens_[token.id] = control ? token.text : with_plain_spaces(token.text);
  types_[token.id] = control ? TokenType::kControl : TokenType::kUserDefined;
  scores_[token.id] = -1000.0f;
  for (const auto& [list, wanted] : {std::pair{&lstrip_, token.lstrip}, {&rstrip_, token.rstrip}}) {
    std::erase(*list, static_cast<Token>(token.id));
    if (wanted) list->push_back(static_cast<Token>(token.id));
  }
  return {};
}

void VocabBuilder::finish(uint64_t n_vocab, Vocab& vocab) {
  if (n_vocab > tokens_.size()) {
    tokens_.resize(n_vocab);
    types_.resize(n_vocab, kHole);
    scores_.resize(n_vocab, -10000.0f);
  }
  for (size_t id = 0; id < tokens_.size(); ++id) {
    if (types_[id] != kHole) continue;
    tokens_[id] = fmt::format("[PAD{}]", id);
    types_[id] = TokenType::kUnused;
  }
  std::sort(lstrip_.begin(), lstrip_.end());
  std::sort(rstrip_.begin(), rstrip_.end());
  vocab.tokens = std::move(tokens_);
  vocab.types = std::move(types_);
  if (vocab.model == Model::kSpm) vocab.scores = std::move(scores_);
  vocab.lstrip = std::move(lstrip_);
  vocab.rstrip = std::move(rstrip_);
}

Expected<uint64_t> json_id(const Json& value, const std::string& where) {
  if (!value.is_number_unsigned()) {
    return fail(ErrorCode::kInvalid, "{}: expected a token id, found {}", where, value.dump().substr(0, 60));
  }
  return value.get<uint64_t>();
}

Expected<std::vector<AddedToken>> parse_added_tokens(const Json& json, const std::string& where) {
  std::vector<AddedToken> out;
  if (json.is_null()) return out;
  if (!json.is_array() && !json.is_object())
    return fail(ErrorCode::kInvalid, "{}: expected a list or an object", where);
  for (const auto& [key, entry] : json.items()) {
    const std::string at = fmt::format("{}[{}]", where, key);
    if (!entry.is_object()) return fail(ErrorCode::kInvalid, "{}: expected an object", at);
    const auto content = entry.find("content");
    if (content == entry.end() || !content->is_string())
      return fail(ErrorCode::kInvalid, "{}: no text in \"content\"", at);
    AddedToken token{.id = 0, .text = content->get<std::string>()};
    if (json.is_array()) {
      const auto id = entry.find("id");
      if (id == entry.end()) return fail(ErrorCode::kInvalid, "{}: no \"id\"", at);
      SHOEHORN_TRY(token.id, json_id(*id, at + ".id"));
    } else {
      const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), token.id);
      if (error != std::errc() || end != key.data() + key.size()) {
        return fail(ErrorCode::kInvalid, "{}: the key is no token id", at);
      }
    }
    token.special = json_or(entry, "special", false);
    token.lstrip = json_or(entry, "lstrip", false);
    token.rstrip = json_or(entry, "rstrip", false);
    out.push_back(std::move(token));
  }
  return out;
}

}  // namespace shoehorn::tokenizer
