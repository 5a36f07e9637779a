#include "tokenizer/chat_prompt.h"

namespace shoehorn::tokenizer {

Expected<std::vector<Token>> encode_chat(const Tokenizer& tokenizer, const ChatTemplate& chat_template,
                                         const ChatInputs::OrderedJson& messages) {
  ChatInputs inputs;
  inputs.messages = messages;
  inputs.merge_system = true;
  return encode_chat(tokenizer, chat_template, std::move(inputs));
}

Expected<std::vector<Token>> encode_chat(const Tokenizer& tokenizer, const ChatTemplate& chat_template, ChatInputs inputs) {
  const Vocab& vocab = tokenizer.vocab();
  name_special_tokens(tokenizer, inputs);
  SHOEHORN_TRY(const std::string text, chat_template.render(inputs));
  auto ids = tokenizer.encode(text, {.add_special = true, .parse_special = true});
  // A template that writes BOS itself must not get a second one from the tokenizer.
  if (vocab.bos && ids.size() >= 2 && ids[0] == *vocab.bos && ids[1] == *vocab.bos) ids.erase(ids.begin());
  // An answer follows: no end of sequence before it.
  if (vocab.add_eos && vocab.eos && ids.size() > 1 && ids.back() == *vocab.eos) ids.pop_back();
  return ids;
}

void name_special_tokens(const Tokenizer& tokenizer, ChatInputs& inputs) {
  const Vocab& vocab = tokenizer.vocab();
  const auto text_of = [&](const std::optional<Token>& token) {
    return token ? tokenizer.piece(*token, true) : std::string();
  };
  inputs.bos_token = text_of(vocab.bos);
  inputs.eos_token = text_of(vocab.eos);
}

}  // namespace shoehorn::tokenizer
