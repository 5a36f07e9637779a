#include "serve/api_error.h"

namespace shoehorn::serve {

HttpResponse json_response(const Json& json, int status) {
  return {.status = status, .body = json.dump(-1, ' ', false, Json::error_handler_t::replace)};
}

HttpResponse error_response(int status, const std::string& message, const char* type, const char* code) {
  return json_response(
      {{"error",
        {{"message", message}, {"type", type}, {"param", nullptr}, {"code", code == nullptr ? Json() : Json(code)}}}},
      status);
}

HttpResponse error_response(const Error& error) {
  switch (error.code) {
    case ErrorCode::kInvalid:
    case ErrorCode::kUnsupported:
      return error_response(400, error.message);
    case ErrorCode::kTooLarge: {
      HttpResponse out = error_response(503, error.message, "server_error", "overloaded");
      out.headers.emplace_back("Retry-After", "1");
      return out;
    }
    case ErrorCode::kCancelled:
      return error_response(503, error.message, "server_error");
    default:
      return error_response(500, error.message, "server_error");
  }
}

}  // namespace shoehorn::serve
