// A client of the loopback interface that can also be rude: it sends what bytes it likes, as slowly as it likes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace shoehorn::test {

class HttpClient {
 public:
  explicit HttpClient(uint16_t port);
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  /// False when the other end has closed.
  bool send(std::string_view bytes);
  /// Bytes until `end` has come (included), the other end closes, or `seconds` are over.
  std::string read_until(std::string_view end, double seconds = 10);
  /// All until the other end closes.
  std::string read_all(double seconds = 10);
  /// Nothing more will be sent.
  void end();
  void close();

 private:
  int fd_ = -1;
  std::string buffered_;
};

struct HttpReply {
  int status = 0;
  std::string head, body;  ///< the body put together again when it came in chunks
};

/// One request on a connection of its own. `headers`: lines that end in \r\n.
HttpReply http_request(uint16_t port, const std::string& method, const std::string& path, const std::string& body = "",
                       const std::string& headers = "");
/// Reads one answer.
HttpReply read_reply(HttpClient& client);

}  // namespace shoehorn::test
