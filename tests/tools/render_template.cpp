// Renders chat templates for tests/interop/chat_templates.mjs: one JSON object {"template", "inputs", "now"?} per line
// on stdin, one {"ok": true, "text"} or {"ok": false, "error"} per line on stdout. `inputs` holds the template's
// variables; `now` is [year, month, day, hour, minute, second].
#include <iostream>
#include <string>

#include "tokenizer/chat_template.h"

namespace {

using shoehorn::Expected;
using shoehorn::tokenizer::ChatInputs;
using shoehorn::tokenizer::ChatTemplate;
using OrderedJson = ChatInputs::OrderedJson;

Expected<std::string> render(const OrderedJson& job) {
  ChatInputs inputs;
  for (const auto& [name, value] : job["inputs"].items()) {
    if (name == "messages")
      inputs.messages = value;
    else if (name == "tools")
      inputs.tools = value;
    else if (name == "bos_token")
      inputs.bos_token = value.get<std::string>();
    else if (name == "eos_token")
      inputs.eos_token = value.get<std::string>();
    else if (name == "add_generation_prompt")
      inputs.add_generation_prompt = value.get<bool>();
    else
      inputs.extra[name] = value;
  }
  if (job.contains("now")) {
    std::tm now{};
    now.tm_year = job["now"][0].get<int>() - 1900;
    now.tm_mon = job["now"][1].get<int>() - 1;
    now.tm_mday = job["now"][2].get<int>();
    now.tm_hour = job["now"][3].get<int>();
    now.tm_min = job["now"][4].get<int>();
    now.tm_sec = job["now"][5].get<int>();
    inputs.now = now;
  }
  auto chat_template = ChatTemplate::parse(job["template"].get<std::string>());
  if (!chat_template) return tl::unexpected<shoehorn::Error>(chat_template.error());
  return chat_template->render(inputs);
}

}  // namespace

int main() {
  std::ios::sync_with_stdio(false);
  for (std::string line; std::getline(std::cin, line);) {
    if (line.empty()) continue;
    OrderedJson answer;
    try {
      const auto text = render(OrderedJson::parse(line));
      answer["ok"] = text.has_value();
      answer[text ? "text" : "error"] = text ? *text : text.error().message;
    } catch (const nlohmann::json::exception& e) {
      std::cerr << "render_template: " << e.what() << '\n';
      return 2;
    }
    std::cout << answer.dump(-1, ' ', false, OrderedJson::error_handler_t::replace) << '\n';
  }
  return 0;
}
