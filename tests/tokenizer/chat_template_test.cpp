#include "tokenizer/chat_template.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <thread>

#include "support/support.h"

namespace shoehorn::tokenizer {
namespace {

using OrderedJson = ChatInputs::OrderedJson;

ChatInputs inputs_of(const char* messages) {
  ChatInputs inputs;
  inputs.messages = OrderedJson::parse(messages);
  inputs.bos_token = "<s>";
  inputs.eos_token = "</s>";
  return inputs;
}

Expected<std::string> render(std::string_view source, const ChatInputs& inputs) {
  auto chat_template = ChatTemplate::parse(source);
  if (!chat_template) return tl::unexpected<Error>(chat_template.error());
  return chat_template->render(inputs);
}

std::string text_or_error(const Expected<std::string>& text) { return text ? *text : "error: " + text.error().message; }

constexpr const char* kQuestion = R"([{"role": "user", "content": "Hello"}])";
constexpr const char* kSystem = R"([{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Hello"}])";
constexpr const char* kTurns = R"([{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"},
                                   {"role": "user", "content": "again"}])";

TEST(ChatTemplate, GivesTheTemplateItsInputs) {
  ChatInputs inputs = inputs_of(kQuestion);
  inputs.tools = OrderedJson::parse(R"([{"b": 1, "a": [true, null, "x"]}])");
  inputs.add_generation_prompt = false;
  inputs.extra = OrderedJson::parse(R"({"enable_thinking": false})");
  const auto text = render(
      "{{ bos_token }}{{ messages[0].role }}:{{ messages[0]['content'] }}{{ eos_token }}|{{ tools | tojson }}|"
      "{{ add_generation_prompt }}|{{ enable_thinking }}",
      inputs);
  EXPECT_EQ(text_or_error(text), R"(<s>user:Hello</s>|[{"b": 1, "a": [true, null, "x"]}]|false|false)");
}

TEST(ChatTemplate, LeavesToolsNoneWithoutAny) {
  EXPECT_EQ(
      text_or_error(render("{{ tools is none }}{% for t in tools %}x{% else %}-{% endfor %}", inputs_of(kQuestion))),
      "true-");
}

TEST(ChatTemplate, FormatsTheGivenTime) {
  ChatInputs inputs = inputs_of(kQuestion);
  std::tm now{};
  now.tm_year = 125;
  now.tm_mon = 1;
  now.tm_mday = 3;
  now.tm_hour = 14;
  now.tm_min = 5;
  now.tm_wday = 1;
  inputs.now = now;
  EXPECT_EQ(text_or_error(render("{{ strftime_now('%Y-%m-%d %d %b %Y %B %H:%M %I%p %a %-d 100%% %Q') }}", inputs)),
            "2025-02-03 03 Feb 2025 February 14:05 02PM Mon 3 100% %Q");
}

TEST(ChatTemplate, PassesOnWhatTheTemplateRaises) {
  const auto text = render("a\nb{{ raise_exception('Only {user} and 100% others!') }}", inputs_of(kQuestion));
  ASSERT_FALSE(text.has_value());
  EXPECT_EQ(text.error().message, "chat template: line 2: Only {user} and 100% others!");
  EXPECT_EQ(text.error().code, ErrorCode::kInvalid);
}

TEST(ChatTemplate, RefusesExtraVariablesThatAreNoObject) {
  ChatInputs inputs = inputs_of(kQuestion);
  inputs.extra = OrderedJson::array({1});
  const auto text = render("x", inputs);
  ASSERT_FALSE(text.has_value());
  EXPECT_NE(text.error().message.find("must be a JSON object"), std::string::npos);
}

TEST(ChatTemplate, MergesASystemMessageThatTheTemplateRefusesOrDrops) {
  const char* refuses =
      "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('No system!') }}{% endif %}[{{ m.content "
      "}}]{% endfor %}";
  const char* drops = "{% for m in messages %}{% if m.role != 'system' %}[{{ m.content }}]{% endif %}{% endfor %}";
  const char* takes = "{% for m in messages %}{{ m.role[0] }}[{{ m.content }}]{% endfor %}";
  ChatInputs inputs = inputs_of(kSystem);
  EXPECT_EQ(text_or_error(render(refuses, inputs)), "error: chat template: line 1: No system!");
  EXPECT_EQ(text_or_error(render(drops, inputs)), "[Hello]");
  inputs.merge_system = true;
  EXPECT_EQ(text_or_error(render(refuses, inputs)), "[Be brief\nHello]");
  EXPECT_EQ(text_or_error(render(drops, inputs)), "[Be brief\nHello]");
  EXPECT_EQ(text_or_error(render(takes, inputs)), "s[Be brief]u[Hello]");
  EXPECT_EQ(text_or_error(render("{{ raise_exception('never') }}", inputs)), "error: chat template: line 1: never");
}

TEST(ChatTemplate, RendersFromSeveralThreads) {
  ASSERT_EXPECTED(
      const ChatTemplate chat_template,
      ChatTemplate::parse("{% for m in messages %}{{ '<' ~ m.role ~ '>' }}{{ m.content | trim }}{% endfor %}"));
  std::vector<std::string> texts(4);
  std::vector<std::thread> threads;
  for (std::string& text : texts) {
    threads.emplace_back([&] {
      for (int i = 0; i < 50; ++i) text = text_or_error(chat_template.render(inputs_of(kTurns)));
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::string& text : texts) EXPECT_EQ(text, "<user>Hello<assistant>Hi<user>again");
}

// --- ../shared/data/templates

// What we do where the case's expected text is not what Jinja makes of the template: llama.cpp puts a system message
// that the template refuses or drops into the user's (merge_system does, too), and its old engine had faults of its
// own.
enum class Outcome { kDropsSystem, kError, kOtherText };
struct CaseException {
  Outcome outcome;
  std::string_view text;  // of the error, or of the prompt's start
};

const std::map<std::string, CaseException> kExceptions = {
    {"mistralai/Mistral-7B-Instruct-v0.2 (NOTE: Old pre-v1 without a system prompt)",
     {Outcome::kError, "Conversation roles must alternate user/assistant/user/assistant/..."}},
    {"google/gemma-7b-it", {Outcome::kError, "System role not supported"}},
    {"OrionStarAI/Orion-14B-Chat", {Outcome::kDropsSystem, ""}},
    {"Phi-3-mini", {Outcome::kDropsSystem, ""}},
    {"Phi-3-medium", {Outcome::kDropsSystem, ""}},
    {"yandex/YandexGPT-5-Lite-8B-instruct", {Outcome::kDropsSystem, ""}},
    // It wants a variable of its tokenizer's that no engine gives it.
    {"ai-sage/GigaChat-20B-A3B-instruct", {Outcome::kError, "'additional_special_tokens[1]' is undefined"}},
};
const std::map<std::string, CaseException> kExceptionsOfTheOldFile = {
    // Without the BOS that the template prints, without the last EOS, without the space that it puts after a role.
    {"mlabonne/AlphaMonarch-7B", {Outcome::kOtherText, "<s>system\nYou are a helpful assistant</s>\n"}},
    {"OrionStarAI/Orion-14B-Chat", {Outcome::kOtherText, "Human: Hello\n\nAssistant: </s>Hi there</s>"}},
    {"ChatGLM3", {Outcome::kOtherText, "[gMASK]sop<|system|>\n You are a helpful assistant<|user|>\n Hello"}},
};

std::string without(std::string text, std::string_view part) {
  const size_t at = text.find(part);
  return at == std::string::npos ? text : text.erase(at, part.size());
}

struct Case {
  std::string name, source, expected;
  ChatInputs inputs;
};

std::vector<Case> read_cases(const std::string& path) {
  const OrderedJson file = OrderedJson::parse(test::read_text(path));
  std::vector<Case> cases;
  for (const OrderedJson& json : file["cases"]) {
    Case c;
    c.name = json["name"];
    c.source = json["template_str"];
    c.expected = json.value("expected_output_jinja", "");
    if (c.expected.empty()) c.expected = json["expected_output"];
    c.inputs.messages = file["messages"];
    c.inputs.bos_token = json.value("bos_token", "");
    c.inputs.eos_token = json.value("eos_token", "");
    cases.push_back(std::move(c));
  }
  return cases;
}

void expect_cases(const std::string& path, bool old_file) {
  const std::vector<Case> cases = read_cases(path);
  EXPECT_GE(cases.size(), 30u);
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    const auto text = render(c.source, c.inputs);
    const auto old = kExceptionsOfTheOldFile.find(c.name);
    const auto exception = old_file && old != kExceptionsOfTheOldFile.end() ? old : kExceptions.find(c.name);
    if (exception == kExceptions.end()) {
      EXPECT_EQ(text_or_error(text), c.expected);
      continue;
    }
    const auto& [outcome, wanted] = exception->second;
    switch (outcome) {
      case Outcome::kDropsSystem:
        EXPECT_EQ(text_or_error(text), without(c.expected, "You are a helpful assistant\n"));
        break;
      case Outcome::kError:
        ASSERT_FALSE(text.has_value()) << *text;
        EXPECT_NE(text.error().message.find(wanted), std::string::npos) << text.error().message;
        break;
      case Outcome::kOtherText:
        EXPECT_NE(text_or_error(text), c.expected);
        EXPECT_EQ(text_or_error(text).substr(0, wanted.size()), wanted);
        break;
    }
  }
}

TEST(ChatTemplateCases, GiveTheExpectedPrompts) {
  SHOEHORN_SHARED(path, "data/templates/chat-template-cases.json");
  expect_cases(path, false);
}

TEST(ChatTemplateCases, OfTheOldFileGiveTheExpectedPrompts) {
  SHOEHORN_SHARED(path, "data/templates/chat-template-cases.llama.cpp-2025-02.json");
  expect_cases(path, true);
}

TEST(ChatTemplateCases, GiveTheExpectedPromptsWithTheSystemMessageMerged) {
  SHOEHORN_SHARED(path, "data/templates/chat-template-cases.json");
  for (Case& c : read_cases(path)) {
    SCOPED_TRACE(c.name);
    c.inputs.merge_system = true;
    if (c.name == "ai-sage/GigaChat-20B-A3B-instruct") {
      c.inputs.extra["additional_special_tokens"] = {"<|role_sep|>", "<|message_sep|>", "[", "]"};
      c.inputs.bos_token = "<s>";
    }
    EXPECT_EQ(text_or_error(render(c.source, c.inputs)), c.expected);
  }
}

struct FolderException {
  std::string_view template_name;
  const char* messages;  // null: all
  std::string_view error;
};
constexpr std::array kFolderExceptions = {
    // Wants a variable of its own.
    FolderException{"fireworks-ai-llama-3-firefunction-v2.jinja", nullptr, "'functions' is undefined"},
    FolderException{"google-gemma-2-2b-it.jinja", kSystem, "System role not supported"},
    // Jinja refuses it, too.
    FolderException{"MiroThinker.jinja", kTurns, "cannot set 'message.tool_calls': only a namespace can be changed"},
};

TEST(ChatTemplateFolder, RendersEveryTemplate) {
  SHOEHORN_SHARED(folder, "data/templates");
  size_t count = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (entry.path().extension() != ".jinja") continue;
    ++count;
    const std::string name = entry.path().filename().string();
    SCOPED_TRACE(entry.path().string());
    const auto chat_template = ChatTemplate::parse(test::read_text(entry.path().string()));
    ASSERT_TRUE(chat_template.has_value()) << chat_template.error().message;
    for (const char* messages : {kQuestion, kSystem, kTurns}) {
      const auto text = chat_template->render(inputs_of(messages));
      const auto exception =
          std::find_if(kFolderExceptions.begin(), kFolderExceptions.end(), [&](const FolderException& e) {
            return e.template_name == name && (e.messages == nullptr || e.messages == messages);
          });
      if (exception != kFolderExceptions.end()) {
        ASSERT_FALSE(text.has_value()) << *text;
        EXPECT_NE(text.error().message.find(exception->error), std::string::npos) << text.error().message;
        continue;
      }
      ASSERT_TRUE(text.has_value()) << messages << text.error().message;
      EXPECT_NE(text->find("Hello"), std::string::npos) << *text;
      EXPECT_TRUE(messages != kSystem || text->find("Be brief") != std::string::npos) << *text;
    }
  }
  EXPECT_GE(count, 45u);
}

TEST(ChatTemplateFolder, RendersToolCallsInTheWayOfTheModel) {
  SHOEHORN_SHARED(folder, "data/templates");
  ChatInputs inputs = inputs_of(R"([{"role": "user", "content": "Weather?"},
      {"role": "assistant", "content": "", "tool_calls": [{"id": "a", "type": "function", "function": {"name": "get_weather",
       "arguments": {"city": "Paris", "days": 2}}}]}, {"role": "tool", "tool_call_id": "a", "name": "get_weather", "content": "sunny"}])");
  inputs.tools =
      OrderedJson::parse(R"([{"type": "function", "function": {"name": "get_weather", "description": "Weather",
      "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}])");
  const auto text = render(test::read_text(folder + "/Qwen-Qwen2.5-7B-Instruct.jinja"), inputs);
  EXPECT_EQ(
      text_or_error(text),
      "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.\n\n# Tools\n\nYou may "
      "call "
      "one or more functions to assist with the user query.\n\nYou are provided with function signatures within "
      "<tools></tools> XML tags:\n<tools>\n"
      R"({"type": "function", "function": {"name": "get_weather", "description": "Weather", "parameters": {"type": "object", )"
      R"("properties": {"city": {"type": "string"}}, "required": ["city"]}}})"
      "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
      "<tool_call></tool_call> XML tags:\n<tool_call>\n{\"name\": <function-name>, \"arguments\": "
      "<args-json-object>}\n</tool_call><|im_end|>\n<|im_start|>user\nWeather?<|im_end|>\n<|im_start|>assistant\n"
      "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\", \"days\": "
      "2}}\n</tool_call><|im_end|>\n"
      "<|im_start|>user\n<tool_response>\nsunny\n</tool_response><|im_end|>\n<|im_start|>assistant\n");
}

}  // namespace
}  // namespace shoehorn::tokenizer
