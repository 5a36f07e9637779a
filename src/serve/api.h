// The endpoints of the server.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "serve/embeddings.h"
#include "serve/generate_request.h"
#include "serve/http_server.h"
#include "serve/worker.h"

namespace shoehorn::serve {

struct ApiOptions {
  std::string model_name;                    ///< as /v1/models calls it
  std::string model_path;                    ///< for /props
  std::vector<std::string> api_keys;         ///< any of them opens /v1 and the rest; empty: all may
  std::vector<std::string> allowed_origins;  ///< pages of these may ask; "*": all
  bool local_only = true;                    ///< requests must be addressed to this machine by a name of itself
  bool metrics = false;
  Pooling pooling = Pooling::kMean;
  GenerateDefaults defaults;
  engine::Adapters adapters;  ///< requests can choose among them
  std::optional<tokenizer::ChatTemplate> chat_template;
  const ToolFormat* tool_format = nullptr;  ///< of chat_template
};

/// Answers requests. Thread-safe. A request can reach nothing but the model: no path, no file, no other host.
class Api {
 public:
  Api(Worker& worker, ApiOptions options);
  ~Api();
  void handle(HttpRequest request, std::shared_ptr<HttpExchange> exchange);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace shoehorn::serve
