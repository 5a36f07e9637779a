// A conversation as the tokens that a model is given.
#pragma once

#include <vector>

#include "tokenizer/chat_template.h"
#include "tokenizer/tokenizer.h"

namespace shoehorn::tokenizer {

/// Renders `messages` [{role, content}, ...] with a prompt for the answer behind them, and encodes the result with BOS
/// as the vocabulary says, once, whether the template writes it or not. A system message that the template refuses goes
/// before the first user message. Fails as ChatTemplate::render does.
Expected<std::vector<Token>> encode_chat(const Tokenizer& tokenizer, const ChatTemplate& chat_template,
                                         const ChatInputs::OrderedJson& messages);

/// The same of inputs that name tools or further variables; the tokens' texts are filled in.
Expected<std::vector<Token>> encode_chat(const Tokenizer& tokenizer, const ChatTemplate& chat_template, ChatInputs inputs);

/// Fills in the texts of BOS and EOS, as templates write them.
void name_special_tokens(const Tokenizer& tokenizer, ChatInputs& inputs);

}  // namespace shoehorn::tokenizer
