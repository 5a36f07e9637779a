// The body of a request for a completion or a chat.
#include "fuzz/seeds.h"
#include "fuzz/target.h"
#include "serve/generate_request.h"
#include "serve/tool_calls.h"

namespace shoehorn::fuzz {
namespace {

constexpr const char* kTemplate =
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% for c in m.tool_calls or [] %}<tool_call>{{ c | tojson "
    "}}</tool_call>{% endfor %}"
    "{% endfor %}{% if tools %}{{ tools | tojson }}{% endif %}<|assistant|>";

}  // namespace

std::string run_chat_request(std::string_view input) {
  const auto body = serve::RequestBody::parse(input);
  if (!body) return message_of(body);
  static const auto texts = std::make_shared<const grammar::TokenTexts>(small_model()->tokenizer());
  static const std::optional<tokenizer::ChatTemplate> chat_template = tokenizer::ChatTemplate::parse(kTemplate).value();
  static const serve::GenerateDefaults defaults;
  const serve::GenerateContext context = {.tokenizer = small_model()->tokenizer(),
                                          .chat_template = chat_template,
                                          .tool_format = serve::tool_format_of(kTemplate),
                                          .defaults = defaults,
                                          .adapters = {},
                                          .token_texts = [] { return texts; }};
  const auto chat = serve::read_chat(*body, context);
  const auto completion = serve::read_completion(*body, context);
  if (chat || completion) return "";
  return body->fields.contains("messages") ? message_of(chat) : message_of(completion);
}

}  // namespace shoehorn::fuzz
