// A request for completions on its way: its choices side by side, their tokens as one answer or as a stream.
#pragma once

#include <memory>
#include <string>

#include "serve/generate_request.h"
#include "serve/http_server.h"
#include "serve/worker.h"

namespace shoehorn::serve {

/// Answers `exchange` with what the request's prompts become, in OpenAI's form: a chat.completion or text_completion,
/// or their chunks as server-sent events. Choices that nobody waits for any more are ended.
void complete(Worker& worker, GenerateRequest request, const std::string& model_name,
              std::shared_ptr<HttpExchange> exchange);

}  // namespace shoehorn::serve
