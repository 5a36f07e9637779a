#include "support/http_client.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <utility>

namespace shoehorn::test {

HttpClient::HttpClient(uint16_t port) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  if (connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) close();
}

HttpClient::~HttpClient() { close(); }

void HttpClient::end() { shutdown(fd_, SHUT_WR); }

void HttpClient::close() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

bool HttpClient::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

std::string HttpClient::read_until(std::string_view end, double seconds) {
  using Clock = std::chrono::steady_clock;
  const auto deadline = Clock::now() + std::chrono::duration<double>(seconds);
  for (;;) {
    const size_t found = end.empty() ? std::string::npos : buffered_.find(end);
    if (found != std::string::npos) {
      std::string out = buffered_.substr(0, found + end.size());
      buffered_.erase(0, found + end.size());
      return out;
    }
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    pollfd wait = {.fd = fd_, .events = POLLIN, .revents = 0};
    char bytes[1 << 14];
    ssize_t n = 0;
    if (left <= 0 || poll(&wait, 1, static_cast<int>(left)) <= 0 || (n = recv(fd_, bytes, sizeof bytes, 0)) <= 0)
      return std::exchange(buffered_, "");
    buffered_.append(bytes, static_cast<size_t>(n));
  }
}

std::string HttpClient::read_all(double seconds) { return read_until("", seconds); }

HttpReply read_reply(HttpClient& client) {
  HttpReply out;
  out.head = client.read_until("\r\n\r\n", 60);
  if (out.head.size() > 12) out.status = std::atoi(out.head.c_str() + 9);
  if (const size_t at = out.head.find("Content-Length: "); at != std::string::npos) {
    size_t left = std::strtoull(out.head.c_str() + at + 16, nullptr, 10);
    while (out.body.size() < left) {
      // A byte that ends what has come so far.
      const std::string more = client.read_until("}", 60);
      if (more.empty()) break;
      out.body += more;
    }
  } else if (out.head.find("chunked") != std::string::npos) {
    for (;;) {
      const size_t size = std::strtoull(client.read_until("\r\n", 60).c_str(), nullptr, 16);
      std::string chunk;
      while (chunk.size() < size + 2) {
        const std::string more = client.read_until("\n", 60);
        if (more.empty()) return out;
        chunk += more;
      }
      if (size == 0) break;
      out.body += chunk.substr(0, size);
    }
  } else {
    out.body = client.read_all(60);
  }
  return out;
}

HttpReply http_request(uint16_t port, const std::string& method, const std::string& path, const std::string& body,
                       const std::string& headers) {
  HttpClient client(port);
  client.send(fmt::format("{} {} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Length: {}\r\nConnection: close\r\n{}\r\n{}",
                          method, path, port, body.size(), headers, body));
  HttpReply out;
  const std::string all = client.read_all(60);
  const size_t end = all.find("\r\n\r\n");
  if (end == std::string::npos) return out;
  out.head = all.substr(0, end + 4);
  out.status = std::atoi(out.head.c_str() + 9);
  std::string_view rest = std::string_view(all).substr(end + 4);
  if (out.head.find("chunked") == std::string::npos) {
    out.body = rest;
    return out;
  }
  while (!rest.empty()) {
    const size_t size = std::strtoull(std::string(rest.substr(0, 16)).c_str(), nullptr, 16), begin = rest.find("\r\n");
    if (size == 0 || begin == rest.npos || begin + 4 + size > rest.size()) break;
    out.body += rest.substr(begin + 2, size);
    rest.remove_prefix(begin + 4 + size);
  }
  return out;
}

}  // namespace shoehorn::test
