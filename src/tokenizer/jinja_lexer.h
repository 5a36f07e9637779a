// Template source -> tokens, with the whitespace control that Hugging Face sets: trim_blocks and lstrip_blocks.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace shoehorn::tokenizer::jinja {

enum class TokenKind {
  kText,
  kBlockBegin,  // {%
  kBlockEnd,    // %}
  kPrintBegin,  // {{
  kPrintEnd,    // }}
  kName,
  kString,  // the text without quotes, escapes resolved
  kInt,
  kFloat,
  kOperator,
  kEnd,
};

struct Token {
  TokenKind kind;
  std::string text;
  int line;  ///< from 1
};

/// The last token is kEnd. Errors name the line: unterminated tags, comments and strings, characters that start no
/// token.
Expected<std::vector<Token>> tokenize(std::string_view source);

}  // namespace shoehorn::tokenizer::jinja
