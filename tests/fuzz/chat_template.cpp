// A chat template, and a conversation with a tool through it.
#include "tokenizer/chat_template.h"

#include "fuzz/target.h"

namespace shoehorn::fuzz {
namespace {

tokenizer::ChatInputs conversation() {
  using Json = tokenizer::ChatInputs::OrderedJson;
  tokenizer::ChatInputs inputs;
  inputs.messages = Json::parse(R"([{"role":"system","content":"S"},{"role":"user","content":"U \u00e9"},
    {"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":{"a":[1,2.5,true,null]}}}]},
    {"role":"tool","tool_call_id":"1","name":"f","content":"{}"},{"role":"user","content":[{"type":"text","text":"T"}]}])");
  inputs.tools = Json::parse(
      R"([{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object","properties":{}}}}])");
  inputs.bos_token = "<s>";
  inputs.eos_token = "</s>";
  inputs.now = std::tm{};
  return inputs;
}

}  // namespace

std::string run_chat_template(std::string_view input) {
  const auto parsed = tokenizer::ChatTemplate::parse(input);
  if (!parsed) return message_of(parsed);
  static const tokenizer::ChatInputs inputs = conversation();
  return message_of(parsed->render(inputs));
}

}  // namespace shoehorn::fuzz
