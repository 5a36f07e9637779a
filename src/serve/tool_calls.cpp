#include "serve/tool_calls.h"

#include <algorithm>
#include <array>
#include <optional>

namespace shoehorn::serve {
namespace {

using Body = ToolFormat::Body;
constexpr size_t kNone = std::string_view::npos;

constexpr std::array kFormats = {
#define SHOEHORN_TOOL_FORMAT(name, in_template, section, section_end, begin, end, body, separator, argument, value, \
                             value_end)                                                                             \
  ToolFormat{#name, in_template, section, section_end, begin, end, Body::body, separator, argument, value, value_end},
#include "serve/tool_formats.inc"
#undef SHOEHORN_TOOL_FORMAT
};

constexpr ToolFormat kPlain = {"plain", "", "", "", "", "", Body::kObject, "name", "arguments", "", ""};

constexpr std::string_view kCallId = "[CALL_ID]";  // Mistral's, between name and arguments
constexpr size_t kMaxTools = 128, kMaxNameBytes = 256;

bool is_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

size_t skip_space(std::string_view text, size_t at) {
  while (at < text.size() && is_space(text[at])) ++at;
  return at;
}

std::string_view trimmed(std::string_view text) {
  text.remove_prefix(skip_space(text, 0));
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

/// Where the JSON object or list that begins at `at` ends; kNone while it does not.
size_t json_end(std::string_view text, size_t at) {
  int depth = 0;
  bool quoted = false;
  for (; at < text.size(); ++at) {
    const char c = text[at];
    if (quoted) {
      if (c == '\\') ++at;
      if (c == '"') quoted = false;
    } else if (c == '"') {
      quoted = true;
    } else if (c == '{' || c == '[') {
      ++depth;
    } else if ((c == '}' || c == ']') && --depth == 0) {
      return at + 1;
    }
  }
  return kNone;
}

/// The arguments of a call as text; nothing when they are no object.
std::optional<std::string> arguments_text(const OrderedJson& arguments) {
  if (arguments.is_object()) return arguments.dump();
  if (arguments.is_null()) return "{}";
  if (!arguments.is_string()) return std::nullopt;
  const auto inner = parse_ordered_json(arguments.get<std::string>());
  return inner && inner->is_object() ? std::optional(inner->dump()) : std::nullopt;
}

/// The calls that a JSON value is; none when it is something else.
std::vector<ToolCall> calls_of(const OrderedJson& json, const ToolFormat& format) {
  std::vector<ToolCall> out;
  for (const OrderedJson& call : json.is_array() ? json : OrderedJson::array({json})) {
    // Some models write {"type": "function", "function": {...}}, as the tools are told to them.
    const OrderedJson& inner =
        call.is_object() && call.contains("function") && call["function"].is_object() ? call["function"] : call;
    const std::string name_key(format.name_key());
    if (!inner.is_object() || !inner.contains(name_key) || !inner[name_key].is_string()) return {};
    OrderedJson arguments;
    for (const std::string& key :
         {std::string(format.arguments_key()), std::string("arguments"), std::string("parameters")}) {
      if (inner.contains(key)) {
        arguments = inner[key];
        break;
      }
    }
    const auto text = arguments_text(arguments);
    if (!text) return {};
    out.push_back({inner[name_key].get<std::string>(), *text});
  }
  return out;
}

/// The name of a call where it stands for itself: Mistral and Kimi put a number beside it.
std::string plain_name(std::string_view name) {
  name = trimmed(name);
  name = name.substr(0, name.find(kCallId));
  if (name.starts_with("functions.")) {
    name.remove_prefix(10);
    name = name.substr(0, name.rfind(':'));
  }
  return std::string(name);
}

/// A value between tags: JSON where it is some, else text.
OrderedJson tagged_value(std::string_view text) {
  const std::string_view plain = trimmed(text);
  if (auto json = parse_ordered_json(plain)) return std::move(*json);
  return OrderedJson(plain);
}

/// A call, or a list of them, that was read.
struct Read {
  enum class State { kCalls, kOpen, kNoCall } state;  // kOpen: more text could make it one
  std::vector<ToolCall> calls = {};
  size_t end = 0;        // behind it
  bool goes_on = false;  // another one has begun there
};

Read read_object(const ToolFormat& format, std::string_view text, size_t at) {
  Read out = {Read::State::kNoCall};
  for (;;) {
    at = skip_space(text, at);
    if (!out.calls.empty() && at < text.size() && (text[at] == ',' || text[at] == ';')) at = skip_space(text, at + 1);
    const bool first = out.calls.empty();
    if (at == text.size()) {
      if (first) return {Read::State::kOpen};
      out.goes_on = at > out.end;
      return out;
    }
    if (text[at] != '{' && (text[at] != '[' || !first)) return out;
    const size_t end = json_end(text, at);
    if (end == kNone) {
      if (first) return {Read::State::kOpen};
      out.goes_on = true;
      return out;
    }
    const auto json = parse_ordered_json(text.substr(at, end - at));
    auto calls = json ? calls_of(*json, format) : std::vector<ToolCall>();
    if (calls.empty()) return out;
    out.state = Read::State::kCalls;
    std::ranges::move(calls, std::back_inserter(out.calls));
    at = out.end = end;
  }
}

Read read_named(const ToolFormat& format, std::string_view text, size_t at) {
  const size_t name_end = text.find(format.separator, at);
  if (name_end == kNone) return {text.size() - at < kMaxNameBytes ? Read::State::kOpen : Read::State::kNoCall};
  const std::string name = plain_name(text.substr(at, name_end - at));
  const size_t begin = skip_space(text, name_end + format.separator.size());
  if (begin == text.size()) return {Read::State::kOpen};
  if (name.empty() || name.size() > kMaxNameBytes || text[begin] != '{') return {Read::State::kNoCall};
  const size_t end = json_end(text, begin);
  if (end == kNone) return {Read::State::kOpen};
  const auto json = parse_ordered_json(text.substr(begin, end - begin));
  if (!json || !json->is_object()) return {Read::State::kNoCall};
  return {Read::State::kCalls, {{name, json->dump()}}, end};
}

Read read_tags(const ToolFormat& format, std::string_view text, size_t at) {
  const size_t end = text.find(format.end, at);
  if (end == kNone) return {Read::State::kOpen};
  std::string_view inside = text.substr(at, end - at);
  const size_t first = std::min(inside.find(format.argument), inside.size());
  const size_t name_end = format.separator.empty() ? first : inside.find(format.separator);
  if (name_end == kNone) return {Read::State::kNoCall};
  const std::string name = plain_name(inside.substr(0, name_end));
  if (name.empty() || name.size() > kMaxNameBytes) return {Read::State::kNoCall};
  OrderedJson arguments = OrderedJson::object();
  for (size_t argument = inside.find(format.argument, std::min(name_end, inside.size())); argument != kNone;
       argument = inside.find(format.argument, argument)) {
    argument += format.argument.size();
    const size_t key_end = inside.find(format.value, argument);
    const size_t value_end = key_end == kNone ? kNone : inside.find(format.value_end, key_end);
    if (value_end == kNone || arguments.size() > kMaxTools) return {Read::State::kNoCall};
    const size_t value = key_end + format.value.size();
    arguments[std::string(trimmed(inside.substr(argument, key_end - argument)))] =
        tagged_value(inside.substr(value, value_end - value));
    argument = value_end + format.value_end.size();
  }
  return {Read::State::kCalls, {{name, arguments.dump()}}, end};
}

Read read_call(const ToolFormat& format, std::string_view text, size_t at) {
  switch (format.body) {
    case Body::kObject:
      return read_object(format, text, at);
    case Body::kNamed:
      return read_named(format, text, at);
    case Body::kTags:
      return read_tags(format, text, at);
  }
  return {Read::State::kNoCall};
}

/// How much of the end of a text could be the beginning of a marker.
size_t begun(const ToolFormat& format, std::string_view text) {
  size_t out = 0;
  for (const std::string_view marker : {format.section, format.begin}) {
    for (size_t n = std::min(marker.empty() ? 0 : marker.size() - 1, text.size()); n > out; --n) {
      if (text.ends_with(marker.substr(0, n))) out = n;
    }
  }
  return out;
}

/// Where the next call, or what stands before it, begins at or behind `at`.
struct Start {
  enum class State { kCall, kOpen, kNothing } state;  // kOpen: a marker that a call can still follow
  size_t marker = 0, call = 0;  // what is before `marker` is content; the call's text begins at `call`
};

Start find_start(const ToolFormat& format, std::string_view text, size_t at) {
  const size_t section = format.section.empty() ? kNone : text.find(format.section, at);
  if (format.begin.empty()) {
    // The answer itself is the call, from its beginning or from the section's mark.
    const size_t call = section == kNone ? at : section + format.section.size();
    const size_t first = skip_space(text, call);
    if (first == text.size())
      return {section == kNone && at > 0 ? Start::State::kNothing : Start::State::kOpen,
              section == kNone ? at : section};
    const bool begins = (section != kNone || at == 0) && (text[first] == '{' || text[first] == '[');
    if (!begins) return {Start::State::kNothing};
    return {Start::State::kCall, section == kNone ? at : section, call};
  }
  const size_t begin = text.find(format.begin, at);
  if (section == kNone && begin == kNone) return {Start::State::kNothing};
  if (begin < section) return {Start::State::kCall, begin, begin + format.begin.size()};
  const size_t behind = skip_space(text, section + format.section.size());
  if (text.substr(behind).starts_with(format.begin))
    return {Start::State::kCall, section, behind + format.begin.size()};
  if (format.begin.starts_with(text.substr(behind))) return {Start::State::kOpen, section};
  if (begin == kNone) return {Start::State::kNothing};
  return {Start::State::kCall, begin, begin + format.begin.size()};
}

}  // namespace

const ToolFormat* tool_format_of(std::string_view chat_template) {
  if (chat_template.find("tools") == kNone) return nullptr;
  for (const ToolFormat& format : kFormats) {
    if (chat_template.find(format.in_template) != kNone) return &format;
  }
  return nullptr;
}

const ToolFormat& plain_tool_format() { return kPlain; }

AnswerParts answer_parts(const ToolFormat& format, std::string_view text, bool whole) {
  AnswerParts out;
  size_t at = 0;
  const auto add_content = [&](size_t end) {
    out.content += text.substr(at, end - at);
    at = end;
  };
  while (at < text.size()) {
    const Start start = find_start(format, text, at);
    if (start.state == Start::State::kNothing) {
      add_content(whole ? text.size() : std::max(at, text.size() - begun(format, text)));
      break;
    }
    add_content(start.marker);
    Read read = start.state == Start::State::kOpen ? Read{Read::State::kOpen} : read_call(format, text, start.call);
    if (read.state == Read::State::kOpen && !whole) break;
    if (read.state != Read::State::kCalls) {
      // Text that looked like a call.
      add_content(start.state == Start::State::kCall && start.call > at ? start.call : text.size());
      continue;
    }
    std::ranges::move(read.calls, std::back_inserter(out.calls));
    at = read.end;
    bool open = read.goes_on;
    for (const std::string_view closes : {format.end, format.section_end}) {
      const size_t next = skip_space(text, at);
      if (closes.empty()) continue;
      if (text.substr(next).starts_with(closes)) {
        at = next + closes.size();
      } else if (text.substr(at).starts_with(closes)) {  // one that begins with space
        at += closes.size();
      } else {
        open |= closes.starts_with(text.substr(next));
      }
    }
    if (open && !whole) break;
    // Space behind a call is the format's.
    at = skip_space(text, at);
  }
  // So is that between what is said and a call; while none has come it may still be.
  if (!whole || !out.calls.empty()) {
    while (!out.content.empty() && is_space(out.content.back())) out.content.pop_back();
  }
  return out;
}

bool is_marker(const ToolFormat& format, std::string_view token) {
  if (token.empty()) return false;
  for (const std::string_view marker : {format.section, format.section_end, format.begin, format.end, format.separator,
                                        format.argument, format.value, format.value_end}) {
    if (marker.find(token) != kNone) return true;
  }
  return token == kCallId;
}

Status check_tools(const OrderedJson& tools) {
  if (!tools.is_array() || tools.size() > kMaxTools)
    return fail(ErrorCode::kInvalid, "tools must be a list of at most {}", kMaxTools);
  for (size_t i = 0; i < tools.size(); ++i) {
    const OrderedJson& tool = tools[i];
    const bool is_function = tool.is_object() && tool.contains("type") && tool["type"] == "function" &&
                             tool.contains("function") && tool["function"].is_object();
    if (!is_function)
      return fail(ErrorCode::kInvalid, "tools[{}] must be {{\"type\": \"function\", \"function\": {{...}}}}", i);
    const OrderedJson& function = tool["function"];
    if (!function.contains("name") || !function["name"].is_string() || function["name"].get<std::string>().empty() ||
        function["name"].get<std::string>().size() > kMaxNameBytes)
      return fail(ErrorCode::kInvalid, "tools[{}].function.name must be a string of 1 to {} bytes", i, kMaxNameBytes);
    if (function.contains("parameters") && !function["parameters"].is_object())
      return fail(ErrorCode::kInvalid, "tools[{}].function.parameters must be a schema", i);
  }
  return {};
}

namespace {

/// References into a schema that has become a part of another one.
void move_references(OrderedJson& schema, const std::string& to) {
  for (auto& [key, value] : schema.items()) {
    if (schema.is_object() && key == "$ref" && value.is_string() && value.get<std::string>().starts_with('#')) {
      value = to + value.get<std::string>().substr(1);
    } else if (value.is_structured()) {
      move_references(value, to);  // no deeper than JSON that was parsed
    }
  }
}

}  // namespace

Expected<OrderedJson> schema_of_call(const OrderedJson& tools, std::string_view name) {
  OrderedJson calls = OrderedJson::array();
  for (const OrderedJson& tool : tools) {
    const OrderedJson& function = tool["function"];
    if (!name.empty() && function["name"] != name) continue;
    OrderedJson parameters = function.contains("parameters") ? function["parameters"] : OrderedJson{{"type", "object"}};
    if (!parameters.contains("type")) parameters["type"] = "object";
    move_references(parameters, fmt::format("#/anyOf/{}/properties/arguments", calls.size()));
    calls.push_back({{"type", "object"},
                     {"properties", {{"name", {{"const", function["name"]}}}, {"arguments", std::move(parameters)}}},
                     {"required", {"name", "arguments"}}});
  }
  if (calls.empty())
    return fail(ErrorCode::kInvalid, "tool_choice: no tool is named \"{}\"", std::string(name.substr(0, 80)));
  return OrderedJson{{"anyOf", std::move(calls)}};
}

}  // namespace shoehorn::serve
