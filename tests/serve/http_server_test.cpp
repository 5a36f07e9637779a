#include "serve/http_server.h"

#include <atomic>
#include <future>
#include <thread>

#include "support/http_client.h"
#include "support/support.h"

namespace shoehorn::serve {
namespace {

using test::HttpClient;
using test::HttpReply;

/// A server whose answers say what was asked.
class Http : public ::testing::Test {
 protected:
  void start(HttpHandler handler = nullptr) {
    if (!handler) {
      handler = [this](HttpRequest request, std::shared_ptr<HttpExchange> exchange) {
        ++n_;
        exchange->respond(
            {.content_type = "text/plain",
             .body = fmt::format("{{{} {} {} {}}}", request.method, request.path, request.query, request.body)});
      };
    }
    options_.port = 0;
    auto server = HttpServer::listen(options_, std::move(handler));
    ASSERT_TRUE(server.has_value()) << server.error().message;
    server_ = std::move(*server);
  }
  uint16_t port() const { return server_->port(); }

  HttpOptions options_;
  std::unique_ptr<HttpServer> server_;
  std::atomic<int> n_{0};
};

TEST_F(Http, AnswersARequest) {
  start();
  const HttpReply reply = test::http_request(port(), "POST", "/a%20b?c=d", "hello");
  EXPECT_EQ(reply.status, 200);
  EXPECT_EQ(reply.body, "{POST /a b c=d hello}");
  EXPECT_NE(reply.head.find("Content-Type: text/plain"), std::string::npos);
  EXPECT_NE(reply.head.find("nosniff"), std::string::npos);
}

TEST_F(Http, AConnectionServesManyRequestsAlsoWhenTheyComeAtOnce) {
  start();
  HttpClient client(port());
  for (int i = 0; i < 3; ++i) {
    client.send("GET /one HTTP/1.1\r\nHost: x\r\n\r\n");
    EXPECT_NE(client.read_until("}").find("{GET /one"), std::string::npos);
  }
  client.send("GET /two HTTP/1.1\r\nHost: x\r\n\r\nPOST /three HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nok");
  EXPECT_NE(client.read_until("}").find("{GET /two"), std::string::npos);
  EXPECT_NE(client.read_until("}").find("{POST /three  ok}"), std::string::npos);
}

TEST_F(Http, HeadHasNoBodyAndOldClientsAreClosed) {
  start();
  EXPECT_EQ(test::http_request(port(), "HEAD", "/").body, "");
  HttpClient old(port());
  old.send("GET / HTTP/1.0\r\n\r\n");
  EXPECT_NE(old.read_all(5).find("{GET /"), std::string::npos);
}

TEST_F(Http, WhatIsTooLargeIsRefused) {
  options_.limits.header_bytes = 2000;
  options_.limits.body_bytes = 10'000;
  start();
  EXPECT_EQ(test::http_request(port(), "POST", "/", std::string(10'000, 'x')).status, 200);
  EXPECT_EQ(test::http_request(port(), "POST", "/", std::string(10'001, 'x')).status, 413);
  EXPECT_EQ(test::http_request(port(), "GET", "/", "", "X: " + std::string(3000, 'x') + "\r\n").status, 431);
  // Said before it is sent: nobody waits for a hundred megabytes.
  HttpClient client(port());
  client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n");
  EXPECT_NE(client.read_until("\r\n").find("413"), std::string::npos);
  // In chunks whose sum is too much.
  HttpClient chunks(port());
  chunks.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
  for (int i = 0; i < 20; ++i) chunks.send("400\r\n" + std::string(1024, 'x') + "\r\n");
  EXPECT_NE(chunks.read_until("\r\n").find("413"), std::string::npos);
}

TEST_F(Http, WhatIsNoRequestIsRefused) {
  start();
  for (const char* bytes :
       {"hello\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "GET noslash HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n", "GET /%00 HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"}) {
    HttpClient client(port());
    client.send(bytes);
    EXPECT_NE(client.read_until("\r\n", 5).find(" 400 "), std::string::npos) << bytes;
  }
  EXPECT_EQ(n_, 0);
  EXPECT_EQ(test::http_request(port(), "GET", "/").status, 200) << "the server is alive";
}

TEST_F(Http, SlowClientsAreHungUpOn) {
  options_.limits.request_time = options_.limits.idle_time = std::chrono::seconds(1);
  start();
  HttpClient slow(port());
  slow.send("GET / HTTP/1.1\r\n");
  const auto begun = std::chrono::steady_clock::now();
  // A header every now and then keeps nobody busy.
  bool open = true;
  for (int i = 0; i < 40 && open; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    open = slow.send("X: y\r\n") && slow.send("Z: y\r\n");
  }
  EXPECT_FALSE(open);
  EXPECT_LT(std::chrono::steady_clock::now() - begun, std::chrono::seconds(4));
  HttpClient idle(port());
  EXPECT_EQ(idle.read_all(4), "");
  EXPECT_EQ(n_, 0);
}

TEST_F(Http, TooManyConnectionsAreRefused) {
  options_.limits.connections = 2;
  start();
  HttpClient a(port()), b(port());
  a.send("GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_NE(a.read_until("}").find("/a"), std::string::npos);
  b.send("GET /b HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_NE(b.read_until("}").find("/b"), std::string::npos);
  HttpClient c(port());
  EXPECT_NE(c.read_until("\r\n").find("503"), std::string::npos);
  a.close();
  for (int i = 0; i < 100; ++i) {
    if (test::http_request(port(), "GET", "/").status == 200) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  FAIL() << "a place that was free again was not given away";
}

TEST_F(Http, StreamsPieces) {
  start([](HttpRequest, std::shared_ptr<HttpExchange> exchange) {
    std::thread([exchange] {
      exchange->begin_stream({.content_type = "text/event-stream"});
      for (int i = 0; i < 5; ++i) exchange->write(fmt::format("data: {}\n\n", i));
      exchange->end_stream();
    }).detach();
  });
  HttpClient client(port());
  // And the connection is good for another.
  for (int i = 0; i < 2; ++i) {
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    const HttpReply reply = test::read_reply(client);
    EXPECT_EQ(reply.status, 200);
    EXPECT_EQ(reply.body, "data: 0\n\ndata: 1\n\ndata: 2\n\ndata: 3\n\ndata: 4\n\n");
  }
}

TEST_F(Http, NoticesThatAClientIsGone) {
  std::atomic<int> written{0};
  std::atomic<bool> over{false};
  start([&](HttpRequest, std::shared_ptr<HttpExchange> exchange) {
    std::thread([&, exchange] {
      exchange->begin_stream({});
      while (exchange->write("piece") && written < 1000) {
        ++written;
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
      }
      over = true;
    }).detach();
  });
  {
    HttpClient client(port());
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    client.read_until("piece");
  }
  for (int i = 0; i < 200 && !over; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_TRUE(over);
  EXPECT_LT(written, 200);
}

TEST_F(Http, AClientThatDoesNotReadIsGone) {
  options_.limits.unread_bytes = 100'000;
  std::atomic<bool> over{false};
  std::atomic<uint64_t> bytes{0};
  start([&](HttpRequest, std::shared_ptr<HttpExchange> exchange) {
    std::thread([&, exchange] {
      exchange->begin_stream({});
      const std::string piece(10'000, 'x');
      while (bytes < 1'000'000'000 && exchange->write(piece)) bytes += piece.size();
      over = true;
    }).detach();
  });
  HttpClient client(port());
  client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  for (int i = 0; i < 500 && !over; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_TRUE(over);
  EXPECT_LT(bytes, 100'000'000u) << "the system's buffers are smaller";
}

TEST_F(Http, AnExchangeThatIsDroppedIsAnError) {
  start([](HttpRequest, std::shared_ptr<HttpExchange>) {});
  EXPECT_EQ(test::http_request(port(), "GET", "/").status, 500);
}

TEST_F(Http, StopsAfterAnswersThatHaveBegun) {
  start([](HttpRequest, std::shared_ptr<HttpExchange> exchange) {
    std::thread([exchange] {
      std::this_thread::sleep_for(std::chrono::milliseconds(300));
      exchange->respond({.body = "{late}"});
    }).detach();
  });
  HttpClient client(port());
  client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  std::thread stopper([&] { server_->stop(std::chrono::seconds(5)); });
  EXPECT_NE(client.read_until("}").find("{late}"), std::string::npos);
  stopper.join();
  HttpClient after(port());
  EXPECT_FALSE(after.send("GET / HTTP/1.1\r\n\r\n") && !after.read_all(1).empty());
}

TEST_F(Http, AnswersThatComeAfterTheServerGoNowhere) {
  std::promise<std::shared_ptr<HttpExchange>> taken;
  start([&](HttpRequest, std::shared_ptr<HttpExchange> exchange) { taken.set_value(std::move(exchange)); });
  HttpClient client(port());
  client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  const auto kept = taken.get_future().get();
  server_.reset();
  EXPECT_TRUE(kept->gone());
  kept->respond({});
}

TEST(HttpServerOptions, WhatCannotBeListenedOnIsSaid) {
  HttpOptions options;
  options.host = "not an address";
  EXPECT_NE(HttpServer::listen(options, nullptr).error().message.find("not an address"), std::string::npos);
  options.host = "127.0.0.1";
  options.port = 0;
  const auto first = HttpServer::listen(options, nullptr);
  ASSERT_TRUE(first.has_value());
  options.port = (*first)->port();
  const auto second = HttpServer::listen(options, nullptr);
  ASSERT_FALSE(second.has_value());
  EXPECT_NE(second.error().message.find(std::to_string(options.port)), std::string::npos);
}

}  // namespace
}  // namespace shoehorn::serve
