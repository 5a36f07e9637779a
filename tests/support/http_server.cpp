#include "support/http_server.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <stdexcept>

namespace shoehorn::hub {
namespace {

bool send_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::send(fd, text.data(), text.size(), MSG_NOSIGNAL);
    if (n <= 0) return false;
    text.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

HttpRequest parse(const std::string& head) {
  HttpRequest out;
  size_t at = head.find("\r\n");
  const std::string line = head.substr(0, at);
  const size_t first = line.find(' '), second = line.find(' ', first + 1);
  out.method = line.substr(0, first);
  out.path = line.substr(first + 1, second - first - 1);
  while (at + 2 < head.size()) {
    const size_t end = head.find("\r\n", at + 2);
    const std::string header = head.substr(at + 2, end - at - 2);
    const size_t colon = header.find(':');
    if (colon != header.npos) {
      std::string name = header.substr(0, colon);
      std::transform(name.begin(), name.end(), name.begin(),
                     [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
      out.headers[name] = header.substr(header.find_first_not_of(' ', colon + 1));
    }
    at = end;
  }
  return out;
}

}  // namespace

HttpServer::HttpServer(Handler handler) : handler_(std::move(handler)) {
  listening_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (::bind(listening_, reinterpret_cast<sockaddr*>(&address), size) != 0 || ::listen(listening_, 64) != 0 ||
      ::getsockname(listening_, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    throw std::runtime_error("no port to listen on");
  }
  port_ = ntohs(address.sin_port);
  acceptor_ = std::thread([this] { accept_all(); });
}

HttpServer::~HttpServer() {
  stopping_ = true;
  acceptor_.join();
  for (std::thread& thread : threads_) thread.join();
  ::close(listening_);
}

std::string HttpServer::url() const { return fmt::format("http://127.0.0.1:{}", port_); }

std::vector<HttpRequest> HttpServer::requests() const {
  const std::lock_guard lock(mutex_);
  return requests_;
}

void HttpServer::accept_all() {
  while (!stopping_) {
    pollfd waiting{listening_, POLLIN, 0};
    if (::poll(&waiting, 1, 20) <= 0) continue;
    const int fd = ::accept4(listening_, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd >= 0) threads_.emplace_back([this, fd] { serve(fd); });
  }
}

void HttpServer::serve(int fd) {
  std::string head;
  for (char piece[4096]; head.find("\r\n\r\n") == head.npos;) {
    pollfd waiting{fd, POLLIN, 0};
    if (stopping_) break;
    if (::poll(&waiting, 1, 20) <= 0) continue;
    const ssize_t n = ::recv(fd, piece, sizeof piece, 0);
    if (n <= 0) break;
    head.append(piece, static_cast<size_t>(n));
  }
  if (head.find("\r\n\r\n") != head.npos) {
    const int now = ++now_;
    for (int most = most_; now > most && !most_.compare_exchange_weak(most, now);) {
    }
    const HttpRequest request = parse(head.substr(0, head.find("\r\n\r\n") + 2));
    {
      const std::lock_guard lock(mutex_);
      requests_.push_back(request);
    }
    const HttpAnswer answer = handler_(request);
    std::string reply = fmt::format("HTTP/1.1 {} X\r\nConnection: close\r\nContent-Length: {}\r\n", answer.status,
                                    answer.content_length.value_or(answer.body.size()));
    for (const auto& [name, value] : answer.headers) reply += name + ": " + value + "\r\n";
    send_all(fd, reply + "\r\n" + answer.body.substr(0, answer.drop_after.value_or(answer.body.size())));
    --now_;
  }
  ::shutdown(fd, SHUT_WR);
  ::close(fd);
}

}  // namespace shoehorn::hub
