// Calls of tools in a model's answer.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/status.h"

namespace shoehorn::serve {

/// How a model writes calls; the rows of tool_formats.inc.
struct ToolFormat {
  enum class Body { kObject, kNamed, kTags };
  std::string_view name, in_template, section, section_end, begin, end;
  Body body;
  std::string_view separator;  ///< kNamed, kTags: behind the name; kObject: the key of the name
  std::string_view argument;   ///< kTags: before an argument's name; kObject: the key of the arguments
  std::string_view value, value_end;

  std::string_view name_key() const { return separator; }
  std::string_view arguments_key() const { return argument; }
};

/// That of models with this chat template; nullptr when the template says nothing of tools in a form that is known.
const ToolFormat* tool_format_of(std::string_view chat_template);
/// A call as nothing but JSON, {"name": ..., "arguments": {...}}: what a grammar makes any model write.
const ToolFormat& plain_tool_format();

struct ToolCall {
  std::string name, arguments;  ///< arguments: a JSON object as text
  bool operator==(const ToolCall&) const = default;
};

struct AnswerParts {
  std::string content;  ///< what is no call
  std::vector<ToolCall> calls;
};

/// Takes an answer apart. While it is not `whole`, content is what cannot become part of a call any more, and calls are
/// those that have ended: more text only ever adds to both. Of a whole answer, what looks like a call and is none is
/// content.
AnswerParts answer_parts(const ToolFormat& format, std::string_view answer, bool whole);

/// Whether a control token's text belongs to the format, so that it is to be seen in an answer.
bool is_marker(const ToolFormat& format, std::string_view token);

/// The tools' names, descriptions and parameters: OpenAI's "tools". kInvalid for what is none.
Status check_tools(const OrderedJson& tools);

/// The schema of a call, as plain_tool_format() has it, of one of the tools; only of `name`, when that is not empty.
/// kInvalid when no tool has that name.
Expected<OrderedJson> schema_of_call(const OrderedJson& tools, std::string_view name);

}  // namespace shoehorn::serve
