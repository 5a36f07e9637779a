// Errors as OpenAI's clients read them.
#pragma once

#include "base/json.h"
#include "base/status.h"
#include "serve/http_server.h"

namespace shoehorn::serve {

/// {"error": {"message", "type", "param", "code"}} with its status.
HttpResponse error_response(int status, const std::string& message, const char* type = "invalid_request_error",
                            const char* code = nullptr);
/// kInvalid and kUnsupported are the client's (400), kTooLarge a full line (503 with Retry-After), all else ours (500).
HttpResponse error_response(const Error& error);
HttpResponse json_response(const Json& json, int status = 200);

}  // namespace shoehorn::serve
