// What /v1/completions and /v1/chat/completions have in common, read from a client's JSON.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "engine/sampler.h"
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
  bool chat = false, stream = false, include_usage = false, echo = false;
};

/// Reads a request for completions: "prompt" as a text, a list of texts, of ids, or of lists of ids. Fails with
/// kInvalid and the field, kUnsupported for what would change the answer and is not done here.
Expected<GenerateRequest> read_completion(const Json& body, const tokenizer::Tokenizer& tokenizer,
                                          const GenerateDefaults& defaults);

/// Reads a request for a chat: "messages", put through the template.
Expected<GenerateRequest> read_chat(const Json& body, const tokenizer::Tokenizer& tokenizer,
                                    const tokenizer::ChatTemplate& chat_template, const GenerateDefaults& defaults);

/// Their ids alone, with a prompt for the answer behind them.
Expected<std::vector<tokenizer::Token>> chat_ids(const Json& body, const tokenizer::Tokenizer& tokenizer,
                                                 const tokenizer::ChatTemplate& chat_template);

}  // namespace shoehorn::serve
