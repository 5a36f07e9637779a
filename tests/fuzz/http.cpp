// What a client sends, over a connection.
#include "fuzz/target.h"
#include "serve/http_server.h"
#include "support/http_client.h"

namespace shoehorn::fuzz {

std::string run_http(std::string_view input) {
  static const auto server = [] {
    serve::HttpOptions options;
    options.port = 0;
    options.n_threads = 1;
    options.limits.body_bytes = 4096;
    options.limits.header_bytes = 2048;
    auto made = serve::HttpServer::listen(
        options, [](const serve::HttpRequest& request, const std::shared_ptr<serve::HttpExchange>& exchange) {
          serve::HttpResponse response;
          if (request.path == "/stream") {
            exchange->begin_stream(std::move(response));
            exchange->write(request.body);
            exchange->write("end");
            return exchange->end_stream();
          }
          if (request.path == "/dropped") return;
          response.body = request.method + request.path + request.query + request.authorization + request.body;
          exchange->respond(std::move(response));
        });
    if (!made) std::abort();
    return std::move(*made);
  }();
  test::HttpClient client(server->port());
  client.send(input);
  client.end();
  const std::string answer = client.read_all(20);
  // The status of the first answer; a connection that is closed without one had nothing to answer.
  return answer.starts_with("HTTP/1.1 2") || answer.empty() ? "" : answer.substr(0, answer.find('\r'));
}

}  // namespace shoehorn::fuzz
