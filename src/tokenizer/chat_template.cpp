#include "tokenizer/chat_template.h"

#include "tokenizer/jinja_evaluator.h"
#include "tokenizer/jinja_parser.h"
#include "tokenizer/jinja_text.h"

namespace shoehorn::tokenizer {
namespace {

std::tm local_now() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  return local;
}

Expected<std::vector<std::pair<std::string, jinja::Value>>> make_globals(jinja::Heap& heap, const ChatInputs& inputs) {
  std::vector<std::pair<std::string, jinja::Value>> globals;
  const auto add = [&](const std::string& name, const ChatInputs::OrderedJson& json) -> Status {
    auto value = heap.from_json(json);
    if (!value) return annotate(std::move(value).error(), fmt::format("the input '{}'", name));
    globals.emplace_back(name, std::move(*value));
    return {};
  };
  SHOEHORN_RETURN_IF_ERROR(add("messages", inputs.messages));
  SHOEHORN_RETURN_IF_ERROR(add("tools", inputs.tools));
  SHOEHORN_RETURN_IF_ERROR(add("bos_token", inputs.bos_token));
  SHOEHORN_RETURN_IF_ERROR(add("eos_token", inputs.eos_token));
  SHOEHORN_RETURN_IF_ERROR(add("add_generation_prompt", inputs.add_generation_prompt));
  if (!inputs.extra.is_null() && !inputs.extra.is_object()) {
    return fail(ErrorCode::kInvalid, "the extra variables must be a JSON object, got {}", inputs.extra.type_name());
  }
  for (const auto& [name, json] : inputs.extra.items()) SHOEHORN_RETURN_IF_ERROR(add(name, json));
  return globals;
}

// The text of a leading system message that a user message with plain text follows, or nothing.
std::optional<std::string> leading_system_text(const ChatInputs::OrderedJson& messages) {
  const auto is_text_of = [](const ChatInputs::OrderedJson& message, const char* role) {
    return message.is_object() && message.contains("role") && message["role"] == role && message.contains("content") &&
           message["content"].is_string();
  };
  if (!messages.is_array() || messages.size() < 2) return std::nullopt;
  if (!is_text_of(messages[0], "system") || !is_text_of(messages[1], "user")) return std::nullopt;
  return messages[0]["content"].get<std::string>();
}

ChatInputs with_system_merged(const ChatInputs& inputs, const std::string& system) {
  ChatInputs merged = inputs;
  merged.messages.erase(merged.messages.begin());
  merged.messages[0]["content"] = system + "\n" + merged.messages[0]["content"].get<std::string>();
  return merged;
}

}  // namespace

Expected<ChatTemplate> ChatTemplate::parse(std::string_view source) {
  auto program = jinja::parse_program(source);
  if (!program) return annotate(std::move(program).error(), "chat template");
  return ChatTemplate(std::make_shared<const jinja::Program>(std::move(*program)));
}

Expected<std::string> ChatTemplate::render(const ChatInputs& inputs) const {
  auto text = render_as_given(inputs);
  if (!inputs.merge_system) return text;
  const auto system = leading_system_text(inputs.messages);
  if (!system || (text && text->find(jinja::trim(*system)) != std::string::npos)) return text;
  auto merged = render_as_given(with_system_merged(inputs, *system));
  return merged || text ? merged : text;  // when both fail, the first error speaks of the caller's messages
}

Expected<std::string> ChatTemplate::render_as_given(const ChatInputs& inputs) const {
  jinja::Heap heap;
  auto globals = make_globals(heap, inputs);
  if (!globals) return annotate(std::move(globals).error(), "chat template");
  const std::tm now = inputs.now.value_or(local_now());
  auto text = jinja::evaluate(*program_, heap, now, std::move(*globals));
  if (!text) return annotate(std::move(text).error(), "chat template");
  return text;
}

}  // namespace shoehorn::tokenizer
