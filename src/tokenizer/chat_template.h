// A model's chat template: messages -> prompt.
#pragma once

#include <ctime>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"

namespace shoehorn::tokenizer {

namespace jinja {
struct Program;
}

struct ChatInputs {
  using OrderedJson = nlohmann::ordered_json;

  OrderedJson messages = OrderedJson::array();  ///< [{role, content, tool_calls, ...}], as the template wants them
  OrderedJson tools;                            ///< list of tools, or null: the variable `tools` is none
  std::string bos_token, eos_token;
  bool add_generation_prompt = true;
  OrderedJson extra = OrderedJson::object();  ///< more variables: enable_thinking, documents, date_string, ...
  /// Where the template refuses a system message, or leaves its text out: put it in front of the first user message, as
  /// llama.cpp does. Off, the template has its way.
  bool merge_system = false;
  std::optional<std::tm> now;  ///< local time for strftime_now(); the clock's when absent
};

/// A Jinja template as Hugging Face runs them (trim_blocks, lstrip_blocks, break/continue, generation tags), in a
/// sandbox: a template reaches its inputs and the functions of jinja_builtins.h, and its size, nesting, loops, memory,
/// work and output are limited (jinja_value.h). Where Jinja and @huggingface/jinja 0.5.11 differ in what they print,
/// the latter is followed. Immutable; render() is thread-safe and needs 1 MiB of stack.
class ChatTemplate {
 public:
  /// Errors are "chat template: line N: ...": kInvalid for bad syntax, kUnsupported for a tag we do not have,
  /// kTooLarge.
  static Expected<ChatTemplate> parse(std::string_view source);

  /// The prompt. Errors as in parse(); what the template itself raises with raise_exception() is kInvalid and ends with
  /// its message. An unknown filter, test, function or method is an error when it is reached.
  Expected<std::string> render(const ChatInputs& inputs) const;

 private:
  Expected<std::string> render_as_given(const ChatInputs& inputs) const;
  explicit ChatTemplate(std::shared_ptr<const jinja::Program> program) : program_(std::move(program)) {}
  std::shared_ptr<const jinja::Program> program_;
};

}  // namespace shoehorn::tokenizer
