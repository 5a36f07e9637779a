#include "serve/http_server.h"

#include <atomic>
#include <boost/asio.hpp>
#include <boost/beast.hpp>
#include <deque>
#include <mutex>
#include <set>
#include <thread>

#include "serve/api_error.h"

namespace shoehorn::serve {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;
using boost::system::error_code;

/// "%41" as "A"; nothing for what is no such code or a NUL.
std::optional<std::string> percent_decoded(std::string_view text) {
  const auto digit = [](char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
  };
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    if (i + 2 >= text.size() || digit(text[i + 1]) < 0 || digit(text[i + 2]) < 0) return std::nullopt;
    out += static_cast<char>(digit(text[i + 1]) * 16 + digit(text[i + 2]));
    if (out.back() == '\0') return std::nullopt;
    i += 2;
  }
  return out;
}

class Connection;

/// What connections have in common. Exchanges may outlive the server: this lives as long as the last of them.
struct Shared {
  asio::io_context context;
  HttpLimits limits;
  HttpHandler handler;
  std::mutex mutex;
  std::set<std::shared_ptr<Connection>> connections;
  std::atomic<bool> stopping{false}, stopped{false};
};

/// One client. All that touches the socket runs on its strand; exchanges post to it.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(tcp::socket socket, std::shared_ptr<Shared> shared)
      : shared_(std::move(shared)), stream_(std::move(socket)) {}

  void start() {
    asio::dispatch(stream_.get_executor(), [self = shared_from_this()] { self->read(true); });
  }
  void close() {
    asio::dispatch(stream_.get_executor(), [self = shared_from_this()] { self->finish(); });
  }
  /// Closes it unless an answer is on its way.
  void close_if_idle() {
    asio::dispatch(stream_.get_executor(), [self = shared_from_this()] {
      if (!self->answering_) self->finish();
    });
  }
  void refuse(int status, std::string_view message) {
    asio::dispatch(stream_.get_executor(), [self = shared_from_this(), status, message = std::string(message)] {
      self->reject(status, message);
    });
  }

 private:
  class Exchange;
  std::shared_ptr<HttpExchange> exchange();
  using Parser = http::request_parser<http::string_body>;

  void finish() {
    if (std::exchange(finished_, true)) return;
    gone_ = true;
    error_code ignored;
    stream_.socket().shutdown(tcp::socket::shutdown_both, ignored);
    stream_.close();
    const std::lock_guard lock(shared_->mutex);
    shared_->connections.erase(shared_from_this());
  }

  void read(bool fresh) {
    if (finished_) return;
    parser_.emplace();
    parser_->header_limit(static_cast<uint32_t>(shared_->limits.header_bytes));
    parser_->body_limit(shared_->limits.body_bytes);
    // A connection may be idle between requests; within one it may not.
    if (!fresh && buffer_.size() == 0) {
      stream_.expires_after(shared_->limits.idle_time);
      stream_.async_read_some(buffer_.prepare(4096), [self = shared_from_this()](error_code error, size_t n) {
        if (error) return self->finish();
        self->buffer_.commit(n);
        self->read_request();
      });
      return;
    }
    read_request();
  }

  void read_request() {
    stream_.expires_after(shared_->limits.request_time);
    http::async_read(stream_, buffer_, *parser_,
                     [self = shared_from_this()](error_code error, size_t) { self->on_request(error); });
  }

  void on_request(error_code error) {
    if (finished_) return;
    if (error == http::error::body_limit)
      return reject(413, fmt::format("the body is larger than {} bytes", shared_->limits.body_bytes));
    if (error == http::error::header_limit || error == http::error::buffer_overflow)
      return reject(431, fmt::format("the headers are larger than {} bytes", shared_->limits.header_bytes));
    if (error == beast::error::timeout) return finish();
    if (error && error.category() == http::make_error_code(http::error::end_of_stream).category() &&
        error != http::error::end_of_stream && error != http::error::partial_message)
      return reject(400, "that is no HTTP request");
    if (error) return finish();
    stream_.expires_never();

    auto message = parser_->release();
    const auto target = std::string_view(message.target().data(), message.target().size());
    const auto header = [&](auto name) {
      const auto found = message.find(name);
      return found == message.end() ? std::string() : std::string(found->value());
    };
    keep_alive_ = message.keep_alive() && !shared_->stopping;
    version_ = message.version();
    head_only_ = message.method() == http::verb::head;
    HttpRequest request;
    request.method = std::string(message.method_string());
    const size_t mark = target.find('?');
    auto path = percent_decoded(target.substr(0, mark));
    if (!path || path->empty() || path->front() != '/') return reject(400, "the target of the request is no path");
    request.path = std::move(*path);
    if (mark != target.npos) request.query = std::string(target.substr(mark + 1));
    request.authorization = header(http::field::authorization);
    request.content_type = header(http::field::content_type);
    request.host = header(http::field::host);
    request.origin = header(http::field::origin);
    request.api_key = header("x-api-key");
    request.body = std::move(message.body());
    answering_ = true;
    watch();
    shared_->handler(std::move(request), exchange());
  }

  /// Notices that the client hangs up while the answer is made. What it sends before that is kept for the next request.
  void watch() {
    if (watching_ || finished_ || buffer_.size() > 0) return;
    watching_ = true;
    stream_.socket().async_wait(tcp::socket::wait_read, [self = shared_from_this()](error_code error) {
      self->watching_ = false;
      if (self->finished_ || !self->answering_) return;
      if (error) return self->finish();
      char byte = 0;
      error_code peeked;
      self->stream_.socket().non_blocking(true, peeked);
      const size_t n = self->stream_.socket().receive(asio::buffer(&byte, 1), tcp::socket::message_peek, peeked);
      if (peeked == asio::error::would_block) return self->watch();
      // A byte more is the next request, which waits until this one is answered.
      if (peeked || n == 0) self->finish();
    });
  }

  void reject(int status, const std::string& message) {
    keep_alive_ = false;
    answering_ = true;
    respond(error_response(status, message));
  }

  http::response<http::string_body> head_of(const HttpResponse& response) const {
    http::response<http::string_body> out(static_cast<http::status>(response.status), version_ == 0 ? 11 : version_);
    out.set(http::field::content_type, response.content_type);
    out.set("X-Content-Type-Options", "nosniff");
    for (const auto& [name, value] : response.headers) out.set(name, value);
    out.keep_alive(keep_alive_);
    return out;
  }

  // On the strand.
  void respond(HttpResponse response) {
    if (finished_) return;
    auto message = std::make_shared<http::response<http::string_body>>(head_of(response));
    message->body() = std::move(response.body);
    message->prepare_payload();
    if (head_only_) message->body().clear();
    stream_.expires_after(shared_->limits.write_time);
    http::async_write(stream_, *message, [self = shared_from_this(), message](error_code error, size_t) {
      if (error) return self->finish();
      self->after_answer();
    });
  }

  void begin_stream(const HttpResponse& response) {
    auto head = head_of(response);
    chunked_ = head.version() >= 11;
    if (chunked_) {
      head.chunked(true);
    } else {
      // An old client knows the end by the end of the connection.
      keep_alive_ = false;
      head.keep_alive(false);
    }
    std::string text =
        fmt::format("HTTP/1.{} {} {}\r\n", head.version() % 10, head.result_int(), std::string(head.reason()));
    for (const auto& field : head)
      text += std::string(field.name_string()) + ": " + std::string(field.value()) + "\r\n";
    enqueue(text + "\r\n");
  }

  void enqueue(std::string bytes) {
    if (finished_) return;
    queue_.push_back(std::move(bytes));
    if (queue_.size() == 1) write_next();
  }

  void write_next() {
    stream_.expires_after(shared_->limits.write_time);
    asio::async_write(stream_, asio::buffer(queue_.front()), [self = shared_from_this()](error_code error, size_t n) {
      self->unread_ -= std::min<size_t>(n, self->unread_.load());
      if (error) return self->finish();
      self->queue_.pop_front();
      if (!self->queue_.empty()) return self->write_next();
      self->stream_.expires_never();
      if (self->ending_) self->after_answer();
    });
  }

  void end_stream() {
    if (finished_) return;
    ending_ = true;
    if (chunked_) {
      enqueue("0\r\n\r\n");
    } else if (queue_.empty()) {
      after_answer();
    }
  }

  void after_answer() {
    answering_ = false;
    ending_ = false;
    stream_.expires_never();
    if (!keep_alive_ || shared_->stopping) {
      // Nothing more will come; the client is given time to read what was sent.
      error_code ignored;
      stream_.socket().shutdown(tcp::socket::shutdown_send, ignored);
      linger();
      return;
    }
    read(false);
  }

  /// Reads away what the client still sends, for a little while: closing at once would take back what it has not read.
  void linger() {
    if (finished_) return;
    if (lingered_ > shared_->limits.body_bytes) return finish();
    stream_.expires_after(std::chrono::seconds(2));
    stream_.async_read_some(asio::buffer(waste_), [self = shared_from_this()](error_code error, size_t n) {
      self->lingered_ += n;
      if (error) return self->finish();
      self->linger();
    });
  }

  const std::shared_ptr<Shared> shared_;
  beast::tcp_stream stream_;
  beast::flat_buffer buffer_;
  std::optional<Parser> parser_;
  std::deque<std::string> queue_;
  std::atomic<size_t> unread_{0};
  std::atomic<bool> gone_{false};
  std::array<char, 4096> waste_;
  size_t lingered_ = 0;
  unsigned version_ = 11;
  bool keep_alive_ = true, head_only_ = false, chunked_ = true, answering_ = false, ending_ = false, watching_ = false,
       finished_ = false;
};

class Connection::Exchange : public HttpExchange {
 public:
  explicit Exchange(std::shared_ptr<Connection> connection) : connection_(std::move(connection)) {}
  ~Exchange() override {
    if (!answered_)
      respond(error_response(500, "the request was dropped"));
    else if (streaming_)
      end_stream();
  }

  void respond(HttpResponse response) override {
    if (std::exchange(answered_, true)) return;
    post([response = std::move(response)](Connection& c) mutable { c.respond(std::move(response)); });
  }
  void begin_stream(HttpResponse head) override {
    if (std::exchange(answered_, true)) return;
    streaming_ = true;
    post([head = std::move(head)](Connection& c) { c.begin_stream(head); });
  }
  bool write(std::string_view piece) override {
    if (gone() || !streaming_ || piece.empty()) return !gone();
    if (connection_->unread_ + piece.size() > connection_->shared_->limits.unread_bytes) {
      connection_->close();
      return false;
    }
    std::string bytes = fmt::format("{:x}\r\n", piece.size());
    bytes.append(piece).append("\r\n");
    connection_->unread_ += bytes.size();
    post([bytes = std::move(bytes), plain = std::string(piece)](Connection& c) mutable {
      c.enqueue(c.chunked_ ? std::move(bytes) : std::move(plain));
    });
    return true;
  }
  void end_stream() override {
    if (!std::exchange(streaming_, false)) return;
    post([](Connection& c) { c.end_stream(); });
  }
  bool gone() const override { return connection_->gone_; }

 private:
  template <class Work>
  void post(Work work) {
    if (connection_->shared_->stopped) return;
    asio::post(connection_->stream_.get_executor(),
               [connection = connection_, work = std::move(work)]() mutable { work(*connection); });
  }

  const std::shared_ptr<Connection> connection_;
  bool answered_ = false, streaming_ = false;
};

std::shared_ptr<HttpExchange> Connection::exchange() { return std::make_shared<Exchange>(shared_from_this()); }

class Server : public HttpServer {
 public:
  Server(const HttpOptions& options, HttpHandler handler) : n_threads_(options.n_threads) {
    shared_->limits = options.limits;
    shared_->handler = std::move(handler);
  }
  ~Server() override { stop(std::chrono::milliseconds(0)); }

  Status open(const HttpOptions& options) {
    error_code error;
    const std::string where = fmt::format("{}:{}", options.host, options.port);
    const auto address = asio::ip::make_address(options.host == "localhost" ? "127.0.0.1" : options.host, error);
    if (error)
      return fail(ErrorCode::kInvalid, "{} is no address; 127.0.0.1 is this machine, 0.0.0.0 all its networks",
                  options.host);
    const tcp::endpoint endpoint(address, options.port);
    acceptor_.open(endpoint.protocol(), error);
    if (!error) acceptor_.set_option(asio::socket_base::reuse_address(true), error);
    if (!error) acceptor_.bind(endpoint, error);
    if (!error) acceptor_.listen(asio::socket_base::max_listen_connections, error);
    if (error) return fail(ErrorCode::kIo, "cannot listen on {}: {}", where, error.message());
    port_ = acceptor_.local_endpoint().port();
    accept();
    for (int i = 0; i < n_threads_; ++i) threads_.emplace_back([this] { shared_->context.run(); });
    return {};
  }

  uint16_t port() const override { return port_; }

  void stop(std::chrono::milliseconds grace) override {
    if (shared_->stopping.exchange(true)) return;
    asio::post(shared_->context, [this] {
      error_code ignored;
      acceptor_.close(ignored);
    });
    const auto all = [&] {
      const std::lock_guard lock(shared_->mutex);
      return std::vector<std::shared_ptr<Connection>>(shared_->connections.begin(), shared_->connections.end());
    };
    for (const auto& connection : all()) connection->close_if_idle();
    const auto end = std::chrono::steady_clock::now() + grace;
    while (!all().empty() && std::chrono::steady_clock::now() < end)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    for (const auto& connection : all()) connection->close();
    work_.reset();
    // Closed connections' last handlers run out by themselves.
    while (!all().empty()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    shared_->context.stop();
    for (std::thread& thread : threads_) thread.join();
    // What was still to run holds connections: it runs here.
    shared_->stopped = true;
    shared_->context.restart();
    while (shared_->context.poll() > 0) continue;
    shared_->handler = nullptr;
  }

 private:
  void accept() {
    acceptor_.async_accept(asio::make_strand(shared_->context), [this](error_code error, tcp::socket socket) {
      if (shared_->stopping) return;
      if (!error) {
        error_code ignored;
        socket.set_option(tcp::no_delay(true), ignored);
        auto connection = std::make_shared<Connection>(std::move(socket), shared_);
        bool too_many = false;
        {
          const std::lock_guard lock(shared_->mutex);
          shared_->connections.insert(connection);
          too_many = shared_->connections.size() > shared_->limits.connections;
        }
        too_many ? connection->refuse(503, "too many connections") : connection->start();
      } else if (error == asio::error::no_descriptors) {
        // Until a connection ends.
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
      }
      accept();
    });
  }

  const int n_threads_;
  const std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
  asio::executor_work_guard<asio::io_context::executor_type> work_{shared_->context.get_executor()};
  tcp::acceptor acceptor_{shared_->context};
  std::vector<std::thread> threads_;
  uint16_t port_ = 0;
};

}  // namespace

Expected<std::unique_ptr<HttpServer>> HttpServer::listen(const HttpOptions& options, HttpHandler handler) {
  auto server = std::make_unique<Server>(options, std::move(handler));
  SHOEHORN_RETURN_IF_ERROR(server->open(options));
  return server;
}

}  // namespace shoehorn::serve
