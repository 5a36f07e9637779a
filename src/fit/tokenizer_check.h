// Does a GGUF read text as its checkpoint did?
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"

namespace shoehorn::fit {

struct TokenizerCheck {
  uint64_t tokens = 0;         ///< of the text, by the model's tokenizer
  bool same = false;           ///< the file's tokenizer gives the same ids
  uint64_t differs_at = 0;     ///< the first token that is another, when they are not the same
  bool same_template = false;  ///< and so is the chat template
};

/// Reads a text with the tokenizers of `model` (a checkpoint's folder or a GGUF) and of `gguf`.
Expected<TokenizerCheck> check_tokenizer(const std::string& model, const std::string& gguf, std::string_view text);

}  // namespace shoehorn::fit
