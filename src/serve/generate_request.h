// What /v1/completions and /v1/chat/completions have in common, read from a client's JSON.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "engine/adapter.h"
#include "engine/sampler.h"
#include "grammar/token_grammar.h"
#include "serve/tool_calls.h"
#include "tokenizer/chat_prompt.h"

namespace shoehorn::serve {

/// Limits and defaults of a server.
struct GenerateDefaults {
  engine::SamplerOptions sampler;
  int64_t max_tokens = -1;  ///< of an answer, where the request says nothing; -1: until the context is full
  size_t max_choices = 16;  ///< of a request
};

struct GenerateRequest {
  std::vector<std::vector<tokenizer::Token>> prompts;
  engine::SamplerOptions sampler;
  int64_t max_tokens = -1;
  size_t n = 1;  ///< choices of each prompt
  std::vector<std::string> stops;
  std::optional<size_t> top_logprobs;  ///< nothing: no logprobs are asked for
  const ToolFormat* tools = nullptr;   ///< calls of tools are looked for in the answer
  engine::Adapters adapters;           ///< added to the weights
  bool chat = false, stream = false, include_usage = false, echo = false;
};

/// A client's JSON object, as it is looked up and in the order in which it was written: keys of messages, tools and
/// schemas are read in order by templates and answers.
struct RequestBody {
  /// kInvalid for what is no JSON or no object, kTooLarge for objects of too many keys.
  static Expected<RequestBody> parse(std::string_view text);
  Json fields;
  OrderedJson ordered;
};

/// What requests are read for.
struct GenerateContext {
  const tokenizer::Tokenizer& tokenizer;
  const std::optional<tokenizer::ChatTemplate>& chat_template;
  const ToolFormat* tool_format;  ///< the template's; nullptr: it knows no tools
  const GenerateDefaults& defaults;
  const engine::Adapters& adapters;  ///< that there are, with the scales of who does not say otherwise
  std::function<std::shared_ptr<const grammar::TokenTexts>()> token_texts;  ///< made when a request has a grammar
};

/// llama.cpp's "lora": [{"id", "scale"}, ...], ids counting the server's adapters; those that are not named are left out.
/// All with their own scales where a request has no such field.
Expected<engine::Adapters> read_adapters(const Json& body, const GenerateContext& context);

/// Texts under a key as tokens: a text, a list of texts, of ids, or of lists of ids.
Expected<std::vector<std::vector<tokenizer::Token>>> read_prompts(const Json& body, const char* key, const GenerateContext& context);

/// Reads a request for completions: "prompt" as a text, a list of texts, of ids, or of lists of ids. Fails with
/// kInvalid and the field, kUnsupported for what would change the answer and is not done here.
Expected<GenerateRequest> read_completion(const RequestBody& body, const GenerateContext& context);

/// Reads a request for a chat: "messages", put through the template; kUnsupported without one.
Expected<GenerateRequest> read_chat(const RequestBody& body, const GenerateContext& context);

/// Their ids alone, with a prompt for the answer behind them.
Expected<std::vector<tokenizer::Token>> chat_ids(const RequestBody& body, const GenerateContext& context);

}  // namespace shoehorn::serve
