#include "serve/tool_calls.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <map>

#include "grammar/json_schema.h"
#include "support/support.h"
#include "tokenizer/chat_template.h"

namespace shoehorn::serve {
namespace {

using test::read_text;

const ToolFormat& format_named(std::string_view in_template) {
  const ToolFormat* out = tool_format_of("tools " + std::string(in_template));
  if (out == nullptr) throw std::runtime_error("no format for " + std::string(in_template));
  return *out;
}

struct Case {
  const char* in_template;
  const char* answer;
  std::string content;
  std::vector<ToolCall> calls;
};

const ToolCall kWeather = {"weather", R"({"city":"Oslo","days":3})"}, kTime = {"time", "{}"};

const std::vector<Case> kCases = {
    {"<tool_call>",
     "Let me see.\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Oslo\", \"days\": "
     "3}}\n</tool_call>\n<tool_call>\n{\"name\": \"time\", \"arguments\": {}}\n</tool_call>",
     "Let me see.",
     {kWeather, kTime}},
    {"<tool_call>",
     "<tool_call>{\"name\": \"weather\", \"arguments\": \"{\\\"city\\\": \\\"Oslo\\\", \\\"days\\\": 3}\"}",
     "",
     {kWeather}},
    {"<tool_call>", "I would use <tool_call> for that.", "I would use <tool_call> for that.", {}},
    {"<tool_call>", "<tool_call>{\"name\": 3}</tool_call>", "<tool_call>{\"name\": 3}</tool_call>", {}},
    {"<tool_call>", "<tool_call>{\"name\": \"weather\", \"arg", "<tool_call>{\"name\": \"weather\", \"arg", {}},
    {"<tool_call>", "no call, 2 < 3 ", "no call, 2 < 3 ", {}},
    {"[TOOL_CALLS]",
     "[TOOL_CALLS][{\"name\": \"weather\", \"arguments\": {\"city\": \"Oslo\", \"days\": 3}, \"id\": \"123456789\"}, "
     "{\"name\": \"time\", \"arguments\": {}}]",
     "",
     {kWeather, kTime}},
    {"[ARGS]",
     "Well.[TOOL_CALLS]weather[CALL_ID]abc[ARGS]{\"city\": \"Oslo\", \"days\": 3}[TOOL_CALLS]time[ARGS]{}",
     "Well.",
     {kWeather, kTime}},
    {"<|python_tag|>", "{\"name\": \"weather\", \"parameters\": {\"city\": \"Oslo\", \"days\": 3}}", "", {kWeather}},
    {"<|python_tag|>",
     "<|python_tag|>{\"name\": \"weather\", \"parameters\": {\"city\": \"Oslo\", \"days\": 3}}; {\"name\": \"time\", "
     "\"parameters\": {}}",
     "",
     {kWeather, kTime}},
    {"<|python_tag|>", "{\"city\": \"Oslo\"} is JSON.", "{\"city\": \"Oslo\"} is JSON.", {}},
    {"<|python_tag|>",
     "Plain words, and {\"name\": \"x\", \"parameters\": {}} in them.",
     "Plain words, and {\"name\": \"x\", \"parameters\": {}} in them.",
     {}},
    {"<function=",
     "<function=weather>{\"city\": \"Oslo\", \"days\": 3}</function>\n<function=time>{}</function>",
     "",
     {kWeather, kTime}},
    {"<parameter=",
     "<tool_call>\n<function=weather>\n<parameter=city>\nOslo\n</parameter>\n<parameter=days>\n3\n</parameter>\n</"
     "function>\n</tool_call>\n<tool_call>\n<function=time>\n</function>\n</tool_call>",
     "",
     {kWeather, kTime}},
    {"<arg_key>",
     "<tool_call>weather<arg_key>city</arg_key><arg_value>Oslo</arg_value><arg_key>days</arg_key><arg_value>3</"
     "arg_value></tool_call><tool_call>time</tool_call>",
     "",
     {kWeather, kTime}},
    {"<|tool_calls_section_begin|>",
     "Ok<|tool_calls_section_begin|><|tool_call_begin|>functions.weather:0<|tool_call_argument_begin|>{\"city\": "
     "\"Oslo\", \"days\": "
     "3}<|tool_call_end|><|tool_call_begin|>functions.time:1<|tool_call_argument_begin|>{}<|tool_call_end|><|tool_"
     "calls_section_end|>",
     "Ok",
     {kWeather, kTime}},
    {"<|START_ACTION|>",
     "<|START_ACTION|>[\n    {\"tool_call_id\": \"0\", \"tool_name\": \"weather\", \"parameters\": {\"city\": "
     "\"Oslo\", \"days\": 3}}\n]<|END_ACTION|>",
     "",
     {kWeather}}};

TEST(ToolCalls, AreFoundInAnswers) {
  for (const Case& c : kCases) {
    const AnswerParts parts = answer_parts(format_named(c.in_template), c.answer, true);
    EXPECT_EQ(parts.content, c.content) << c.answer;
    EXPECT_EQ(parts.calls, c.calls) << c.answer;
  }
}

// What is sent while an answer comes is never taken back.
TEST(ToolCalls, MoreTextOnlyAdds) {
  for (const Case& c : kCases) {
    const ToolFormat& format = format_named(c.in_template);
    const std::string_view answer = c.answer;
    for (size_t n = 0; n <= answer.size(); ++n) {
      const AnswerParts parts = answer_parts(format, answer.substr(0, n), false);
      ASSERT_TRUE(c.content.starts_with(parts.content)) << answer.substr(0, n) << " gives \"" << parts.content << "\"";
      ASSERT_LE(parts.calls.size(), c.calls.size()) << answer.substr(0, n);
      for (size_t i = 0; i < parts.calls.size(); ++i) ASSERT_EQ(parts.calls[i], c.calls[i]);
    }
  }
}

// The templates of real models write calls; what they write is read back.
TEST(ToolCalls, OfRealTemplatesAreReadBack) {
  SHOEHORN_SHARED(directory, "data/templates");
  const OrderedJson tools =
      OrderedJson::parse(R"([{"type": "function", "function": {"name": "weather", "description": "d",
      "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": "c"}, "days": {"type": "integer", "description": "n"}}, "required": ["city"]}}}])");
  // Forms that are not known here, and why a template of a known form is not asked.
  const std::map<std::string, const char*> others = {
      {"ByteDance-Seed-OSS", "tags of its own"},
      {"Cohere2MoE", "needs messages of its own"},
      {"MiroThinker", "changes a tool that it is given, which a sandbox does not allow"},
      {"meetkai-functionary-medium-v3.2", "content is a call of the function all"}};
  size_t n_read = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    if (entry.path().extension() != ".jinja") continue;
    const std::string name = entry.path().stem(), source = read_text(entry.path());
    const ToolFormat* format = tool_format_of(source);
    if (format == nullptr || others.contains(name)) continue;
    ASSERT_EXPECTED(const auto parsed, tokenizer::ChatTemplate::parse(source));
    bool read = false;
    std::string last;
    for (const bool as_object : {true, false}) {
      tokenizer::ChatInputs inputs;
      inputs.tools = tools;
      inputs.bos_token = "<s>";
      inputs.eos_token = "</s>";
      const OrderedJson arguments = {{"city", "Oslo"}, {"days", 3}};
      inputs.messages = {{{"role", "user"}, {"content", "How warm is it?"}}};
      std::vector<Expected<std::string>> questions = {parsed.render(inputs)};
      inputs.add_generation_prompt = false;
      questions.push_back(parsed.render(inputs));
      inputs.messages.push_back(
          {{"role", "assistant"},
           {"content", ""},
           {"tool_calls",
            {{{"id", "abcdefghi"},
              {"type", "function"},
              {"function",
               {{"name", "weather"}, {"arguments", as_object ? arguments : OrderedJson(arguments.dump())}}}}}}});
      const auto both = parsed.render(inputs);
      if (!both) last += both.error().message;
      // What the template begins an answer with may not be how it writes one.
      for (const auto& question : questions) {
        if (!question || !both) continue;
        const auto common = static_cast<size_t>(
            std::mismatch(question->begin(), question->end(), both->begin(), both->end()).first - question->begin());
        last = both->substr(common);
        read |= answer_parts(*format, last, true).calls == std::vector<ToolCall>{kWeather};
      }
    }
    EXPECT_TRUE(read) << name << " as " << format->name << ": " << last;
    n_read += read ? 1 : 0;
  }
  EXPECT_GE(n_read, 20u);
}

TEST(ToolCalls, OfAGrammarFollowTheToolsSchemas) {
  const OrderedJson tools = OrderedJson::parse(
      R"([{"type": "function", "function": {"name": "a", "parameters": {"properties": {"t": {"$ref": "#/$defs/t"}}, "required": ["t"], "$defs": {"t": {"type": "integer"}}}}},
      {"type": "function", "function": {"name": "b"}}])");
  ASSERT_TRUE(check_tools(tools));
  ASSERT_EXPECTED(const OrderedJson any, schema_of_call(tools, ""));
  EXPECT_EQ(any["anyOf"].size(), 2u);
  ASSERT_EXPECTED(const std::string gbnf, grammar::gbnf_of_schema(any));
  EXPECT_NE(gbnf.find("\\\"a\\\""), std::string::npos);
  EXPECT_FALSE(schema_of_call(tools, "c").has_value());
  EXPECT_FALSE(check_tools(OrderedJson::parse(R"([{"type": "function", "function": {}}])")));
  EXPECT_FALSE(check_tools(OrderedJson::parse(R"([{"name": "a"}])")));
}

}  // namespace
}  // namespace shoehorn::serve
