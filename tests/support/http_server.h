// A server on the loopback interface that answers as a test wants, also wrongly.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace shoehorn::hub {

struct HttpRequest {
  std::string method, path;                    ///< path with its query
  std::map<std::string, std::string> headers;  ///< names in lower case
};

struct HttpAnswer {
  int status = 200;
  std::map<std::string, std::string> headers;
  std::string body;
  std::optional<uint64_t> content_length;  ///< to be told in place of the body's
  std::optional<size_t> drop_after;        ///< bytes of the body; then the connection is closed
};

class HttpServer {
 public:
  using Handler = std::function<HttpAnswer(const HttpRequest&)>;
  /// Listens on a free port and answers each request in a thread of its own.
  explicit HttpServer(Handler handler);
  ~HttpServer();

  std::string url() const;
  std::vector<HttpRequest> requests() const;
  int most_at_once() const { return most_; }

 private:
  void accept_all();
  void serve(int fd);

  Handler handler_;
  int listening_ = -1;
  uint16_t port_ = 0;
  std::atomic<bool> stopping_ = false;
  std::atomic<int> now_ = 0, most_ = 0;
  mutable std::mutex mutex_;
  std::vector<HttpRequest> requests_;
  std::vector<std::thread> threads_;
  std::thread acceptor_;
};

}  // namespace shoehorn::hub
