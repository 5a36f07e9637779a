// Does a tokenizer do what it must, whatever text comes? And does the model's template make a prompt of a conversation?
#pragma once

#include <string>

#include "tokenizer/tokenizer.h"

namespace shoehorn::tokenizer {

/// Texts of several scripts, white space and bytes that are no text come back from their tokens as they were (where the
/// vocabulary has a token for every byte); what texts special tokens have becomes these tokens; control tokens are none
/// of plain text. Fails naming text or token.
Status test_tokenizer(const Tokenizer& tokenizer);

/// Renders conversations with a system message, without one, with tools: the model's template must take one at least,
/// and is told apart from one that refuses a system message or has no use for tools.
struct TemplateTest {
  bool any = false;                    ///< there is a template
  bool system = false, tools = false;  ///< their text is in the prompt
  size_t prompt_bytes = 0;             ///< of the plain conversation
};
/// Fails when the template does not parse, or takes no conversation.
Expected<TemplateTest> test_template(const Tokenizer& tokenizer);

}  // namespace shoehorn::tokenizer
