// HTTP/1.1 for strangers: everything that a client sends is limited in size and in time.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace shoehorn::serve {

struct HttpRequest {
  std::string method;  ///< "GET"
  std::string path;    ///< without the query, percent-decoded
  std::string query;
  std::string authorization, content_type, host, origin, api_key;  ///< headers, "" where there are none
  std::string body;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json; charset=utf-8";
  std::string body = {};
  std::vector<std::pair<std::string, std::string>> headers = {};
};

/// The other end of a request while its answer is made. Thread-safe: any thread may answer.
class HttpExchange {
 public:
  virtual ~HttpExchange() = default;
  /// A whole answer; once, and instead of a stream.
  virtual void respond(HttpResponse response) = 0;
  /// Begins an answer in pieces (chunked transfer).
  virtual void begin_stream(HttpResponse head) = 0;
  /// A piece. False when the client is gone or has not read for so long that it counts as gone.
  virtual bool write(std::string_view piece) = 0;
  virtual void end_stream() = 0;
  /// The client hung up before the answer was whole.
  virtual bool gone() const = 0;
};

/// Called on one of the server's threads for every request that is well formed and within the limits. It may answer
/// there or keep the exchange and answer from elsewhere; an exchange that is dropped without an answer is a 500.
using HttpHandler = std::function<void(HttpRequest request, std::shared_ptr<HttpExchange> exchange)>;

struct HttpLimits {
  size_t header_bytes = 16 << 10;
  size_t body_bytes = 16 << 20;
  size_t connections = 1024;              ///< further ones are answered 503
  size_t unread_bytes = 1 << 20;          ///< of a stream, that wait for its client
  std::chrono::seconds request_time{30};  ///< from the first byte of a request to its last
  std::chrono::seconds idle_time{60};     ///< between two requests of a connection
  std::chrono::seconds write_time{30};    ///< in which a client must read something
};

struct HttpOptions {
  std::string host = "127.0.0.1";
  uint16_t port = 8080;  ///< 0: any free one
  int n_threads = 2;
  HttpLimits limits = {};
};

class HttpServer {
 public:
  /// Listens. Fails with kIo naming address and port.
  static Expected<std::unique_ptr<HttpServer>> listen(const HttpOptions& options, HttpHandler handler);
  virtual ~HttpServer() = default;

  virtual uint16_t port() const = 0;
  /// Takes no new connections, lets answers that have begun end for as long as `grace`, then closes the rest.
  virtual void stop(std::chrono::milliseconds grace) = 0;
};

}  // namespace shoehorn::serve
