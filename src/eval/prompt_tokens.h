// Texts as the tokens that a model is given.
#pragma once

#include <string_view>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace shoehorn::eval {

/// BOS when the model adds it, then the text, whose special tokens are plain text; no EOS. An empty text in a model
/// without BOS is its EOS (as the harness has it), so that something can be predicted from.
std::vector<tokenizer::Token> prompt_tokens(const tokenizer::Tokenizer& tokenizer, std::string_view text);

struct Continuation {
  std::vector<tokenizer::Token> ids;  ///< of context and continuation together
  size_t n_context = 0;               ///< ids before this one are the context's; at least 1
  bool merged = false;                ///< a token spans the seam; it counts as the continuation's
};

/// Context and continuation are tokenized together, since a model saw texts tokenized so. What encode(context) has is
/// taken off the front, as in lm-evaluation-harness; where the two differ before its end, at the first difference (the
/// harness would score a text that does not occur).
Continuation continuation_tokens(const tokenizer::Tokenizer& tokenizer, std::string_view context,
                                 std::string_view continuation);

/// Shortens a prompt to at most n_max ids by leaving out its oldest ones; BOS stays in front. Returns how many went.
size_t cut_from_left(const tokenizer::Tokenizer& tokenizer, std::vector<tokenizer::Token>& ids, size_t n_max);

}  // namespace shoehorn::eval
