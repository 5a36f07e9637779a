#include "tokenizer/self_test.h"

#include <algorithm>
#include <set>

#include "tokenizer/byte_level.h"
#include "tokenizer/chat_prompt.h"

namespace shoehorn::tokenizer {
namespace {

constexpr EncodeOptions kPlain{.add_special = false, .parse_special = false};

constexpr std::string_view kTexts[] = {
    "The quick brown fox jumps over the lazy dog.",
    "It's 3.14159 and 1,234,567; they're 100% sure -- aren't you?",
    "  two spaces,\ta tab,\n\na line between\r\n   and an end with spaces   ",
    "Größe, naïve, œuvre, Łódź, Ελληνικά, Привет, мир",
    "漢字とかな、한국어, العربية, עברית, हिन्दी, ไทย",
    "\U0001F600\U0001F468\u200D\U0001F469\u200D\U0001F467 e\u0301 \u00a0 \u2028 \ufeff",
    "int main() { return a[i] != 0 ? x->y : ~z; }  // <tag attr=\"v\">",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 00000000000000000000",
    std::string_view("\x00\x01\x7f\x80\xc3\xff\xed\xa0\x80", 9),
};

/// Has it a token for every byte? Then no text is beyond it.
bool spells_every_byte(const Vocab& vocab) {
  if (vocab.model == Model::kSpm) return std::ranges::count(vocab.types, TokenType::kByte) == 256;
  // Others than normal tokens are no part of BPE; deepseek-coder has some bytes as added tokens.
  std::set<std::string_view> tokens;
  for (size_t i = 0; i < vocab.tokens.size(); ++i) {
    if (vocab.types[i] == TokenType::kNormal) tokens.insert(vocab.tokens[i]);
  }
  for (int byte = 0; byte < 256; ++byte) {
    if (!tokens.contains(byte_level_encode(std::string(1, static_cast<char>(byte))))) return false;
  }
  return true;
}

bool is_special(TokenType type) { return type == TokenType::kControl || type == TokenType::kUserDefined; }

ChatInputs::OrderedJson message(const char* role, const char* content) {
  return {{"role", role}, {"content", content}};
}

}  // namespace

Status test_tokenizer(const Tokenizer& tokenizer) {
  const Vocab& vocab = tokenizer.vocab();
  const bool spells = spells_every_byte(vocab);
  for (const std::string_view text : kTexts) {
    const auto ids = tokenizer.encode(text, kPlain);
    for (const Token id : ids) {
      if (id < 0 || id >= tokenizer.n_vocab())
        return fail(ErrorCode::kInvalid, "the tokenizer makes token {} of {:?}; there are {}", id, text,
                    tokenizer.n_vocab());
      if (vocab.types[static_cast<size_t>(id)] == TokenType::kControl)
        return fail(ErrorCode::kInvalid, "the tokenizer makes the control token {} of plain text {:?}", id, text);
    }
    if (spells && tokenizer.decode(ids) != text) {
      return fail(ErrorCode::kInvalid, "the tokenizer's tokens of {:?} spell {:?}", text, tokenizer.decode(ids));
    }
  }
  for (size_t i = 0; i < vocab.tokens.size(); ++i) {
    const auto token = static_cast<Token>(i);
    if (!is_special(vocab.types[i]) || vocab.tokens[i].empty()) continue;
    const auto ids = tokenizer.encode(vocab.tokens[i], {.add_special = false, .parse_special = true});
    if (std::ranges::find(ids, token) == ids.end()) {
      return fail(ErrorCode::kInvalid, "the text of special token {}, {:?}, does not become this token", i,
                  vocab.tokens[i]);
    }
  }
  return {};
}

Expected<TemplateTest> test_template(const Tokenizer& tokenizer) {
  const Vocab& vocab = tokenizer.vocab();
  TemplateTest out;
  if (vocab.chat_template.empty()) return out;
  out.any = true;
  SHOEHORN_TRY(const auto chat, ChatTemplate::parse(vocab.chat_template));
  ChatInputs inputs;
  name_special_tokens(tokenizer, inputs);
  const auto talk = [](bool with_system) {
    auto messages = ChatInputs::OrderedJson::array();
    if (with_system) messages.push_back(message("system", "Be-brief-and-kind."));
    messages.push_back(message("user", "What-is-a-shoehorn?"));
    messages.push_back(message("assistant", "A-tool-for-shoes."));
    messages.push_back(message("user", "And-of-what-is-it-made?"));
    return messages;
  };
  inputs.messages = talk(false);
  const auto plain = chat.render(inputs);
  inputs.messages = talk(true);
  const auto with_system = chat.render(inputs);
  if (!plain && !with_system) return tl::unexpected<Error>(plain.error());
  const std::string& prompt = plain ? *plain : *with_system;
  if (prompt.find("And-of-what-is-it-made?") == std::string::npos)
    return fail(ErrorCode::kInvalid, "chat template: the user's last message is not in the prompt");
  out.prompt_bytes = prompt.size();
  out.system = with_system && with_system->find("Be-brief-and-kind.") != std::string::npos;
  if (!with_system) inputs.messages = talk(false);
  inputs.tools = ChatInputs::OrderedJson::parse(
      R"([{"type":"function","function":{"name":"look_up_material","description":"Looks it up.","parameters":{"type":"object","properties":{"thing":{"type":"string","description":"What"}},"required":["thing"]}}}])");
  const auto with_tools = chat.render(inputs);
  out.tools = with_tools && with_tools->find("look_up_material") != std::string::npos;
  return out;
}

}  // namespace shoehorn::tokenizer
