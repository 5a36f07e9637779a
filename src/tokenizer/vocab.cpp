#include "tokenizer/vocab.h"

#include <algorithm>
#include <cmath>
#include <string_view>
#include <unordered_map>

#include "tokenizer/vocab_parts.h"

namespace shoehorn::tokenizer {
namespace {

// In the order of preference when a vocabulary has several and no key names the end-of-turn token.
constexpr std::string_view kEndOfTurn[] = {
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>",         "<|eot|>",       "<end_of_utterance>",
    "<EOT>",      "_<EOT>",     "[EOT]",   "<｜end▁of▁sentence｜>", "<|endoftext|>", "<|end_of_text|>",
};

// Tokens that end a generation wherever they occur as special tokens.
constexpr std::string_view kEndOfGeneration[] = {
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|eot|>",
    "<|eom|>",
    "</s>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<｜end▁of▁sentence｜>",
    "<|fim_pad|>",
    "<fim-pad>",
    "<fim_pad>",
    "<|fim_repo|>",
    "<|repo_name|>",
    "<fim-repo>",
    "<reponame>",
    "<|file_sep|>",
};

/// A normal token may happen to spell one of the names above.
bool is_special(TokenType type) {
  return type == TokenType::kControl || type == TokenType::kUserDefined || type == TokenType::kUnknown;
}

}  // namespace

std::optional<uint8_t> byte_token_value(std::string_view text) {
  const auto digit = [](char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
  };
  if (text.size() != 6 || text.substr(0, 3) != "<0x" || text[5] != '>') return std::nullopt;
  const int high = digit(text[3]), low = digit(text[4]);
  if (high < 0 || low < 0) return std::nullopt;
  return static_cast<uint8_t>(high << 4 | low);
}

void derive_end_tokens(Vocab& vocab) {
  std::unordered_map<std::string_view, Token> special;
  for (size_t i = 0; i < vocab.tokens.size(); ++i) {
    if (is_special(vocab.types[i])) special.emplace(vocab.tokens[i], static_cast<Token>(i));
  }
  for (const std::string_view name : kEndOfTurn) {
    if (vocab.eot) break;
    if (const auto it = special.find(name); it != special.end()) vocab.eot = it->second;
  }
  for (const std::string_view name : kEndOfGeneration) {
    if (const auto it = special.find(name); it != special.end()) vocab.eog.push_back(it->second);
  }
  for (const auto& id : {vocab.eos, vocab.eot}) {
    if (id) vocab.eog.push_back(*id);
  }
  // Where the generation ends with a message (<|return|>) or a call, <|end|> only ends one of its parts.
  if (special.contains("<|return|>") && special.contains("<|call|>") && special.contains("<|end|>")) {
    std::erase(vocab.eog, special["<|end|>"]);
  }
  std::sort(vocab.eog.begin(), vocab.eog.end());
  vocab.eog.erase(std::unique(vocab.eog.begin(), vocab.eog.end()), vocab.eog.end());
}

Status check_vocab(const Vocab& vocab) {
  const size_t n = vocab.tokens.size();
  if (n == 0) return fail(ErrorCode::kInvalid, "vocabulary: no tokens");
  if (n > kMaxVocab) return fail(ErrorCode::kInvalid, "vocabulary: {} tokens, at most {} are supported", n, kMaxVocab);
  if (vocab.types.size() != n) {
    return fail(ErrorCode::kInvalid, "vocabulary: {} token types for {} tokens", vocab.types.size(), n);
  }
  if (vocab.model == Model::kSpm && vocab.scores.size() != n) {
    return fail(ErrorCode::kInvalid, "vocabulary: {} scores for {} tokens", vocab.scores.size(), n);
  }
  for (size_t i = 0; i < vocab.scores.size(); ++i) {
    if (!std::isfinite(vocab.scores[i]))
      return fail(ErrorCode::kInvalid, "vocabulary: the score of token {} is not finite", i);
  }
  std::unordered_map<std::string_view, size_t> ids;
  ids.reserve(n);
  for (size_t i = 0; i < n; ++i) {
    if (vocab.tokens[i].size() > kMaxTokenBytes) {
      return fail(ErrorCode::kInvalid, "vocabulary: token {} is {} bytes long, at most {} are supported", i, vocab.tokens[i].size(),
                  kMaxTokenBytes);
    }
    const auto type = static_cast<int32_t>(vocab.types[i]);
    if (type < 1 || type > 6) return fail(ErrorCode::kInvalid, "vocabulary: token {} has the unknown type {}", i, type);
    if (vocab.types[i] == TokenType::kByte && !byte_token_value(vocab.tokens[i])) {
      return fail(ErrorCode::kInvalid, "vocabulary: byte token {} is {:?}, not <0x00>..<0xFF>", i, vocab.tokens[i]);
    }
    if (vocab.tokens[i].empty()) continue;
    const auto [it, inserted] = ids.emplace(vocab.tokens[i], i);
    if (!inserted) {
      return fail(ErrorCode::kInvalid, "vocabulary: {:?} is both token {} and token {}", vocab.tokens[i], it->second,
                  i);
    }
  }
  const auto in_range = [n](Token id) { return id >= 0 && static_cast<size_t>(id) < n; };
  const std::pair<const char*, std::optional<Token>> specials[] = {
      {"bos", vocab.bos}, {"eos", vocab.eos}, {"eot", vocab.eot}, {"unk", vocab.unk}, {"pad", vocab.pad}};
  for (const auto& [name, id] : specials) {
    if (id && !in_range(*id)) return fail(ErrorCode::kInvalid, "vocabulary: {} token id {} of {} tokens", name, *id, n);
  }
  for (const auto& [name, list] :
       {std::pair{"end-of-generation", &vocab.eog}, {"lstrip", &vocab.lstrip}, {"rstrip", &vocab.rstrip}}) {
    for (const Token id : *list) {
      if (!in_range(id)) return fail(ErrorCode::kInvalid, "vocabulary: {} token id {} of {} tokens", name, id, n);
    }
  }
  return {};
}

}  // namespace shoehorn::tokenizer
