#include "base/http.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>

#include "base/testing_loop.h"

namespace hob::http {
namespace {

using namespace std::chrono_literals;

uint16_t port_of(const Fd& listener) {
  sockaddr_in address{};
  socklen_t size = sizeof address;
  EXPECT_EQ(getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
  return ntohs(address.sin_port);
}

// What the test's server answers: by path.
Async<> handle(const Request& request, BodyReader& body, Responder& responder) {
  if (request.path == "/echo") {
    Result<std::string> content = co_await read_all(body, 64 * 1024 * 1024);
    Response response{.status = content ? 200 : 400};
    response.body = content ? *content : content.error().message;
    (void)co_await responder.respond(std::move(response));
  } else if (request.path == "/stream") {
    (void)co_await responder.begin(200, {}, std::nullopt);
    for (int i = 0; i < 3; ++i) (void)co_await responder.write("piece" + std::to_string(i) + ";");
    (void)co_await responder.end();
  } else if (request.path == "/big") {
    (void)co_await responder.begin(200, {}, 10'000'000);
    for (int i = 0; i < 100; ++i) {
      if (!co_await responder.write(std::string(100'000, 'x'))) co_return;
    }
    (void)co_await responder.end();
  } else if (request.path == "/peer") {
    Response response{.body = request.peer};
    (void)co_await responder.respond(std::move(response));
  } else if (request.path == "/silent") {
    co_return;
  } else if (request.path == "/short") {
    (void)co_await responder.begin(200, {}, 100);
    (void)co_await responder.write("only this");
    (void)co_await responder.end();
  } else if (request.path == "/injected") {
    Response response{};
    response.headers.add("X-Name", "a\r\nSet-Cookie: b");
    (void)co_await responder.respond(std::move(response));
  } else {
    Response response{.status = 404, .body = "nothing at " + request.path};
    (void)co_await responder.respond(std::move(response));
  }
}

// Sends `bytes` as they are, then reads until the peer closes (or `until` was seen). Blocks: runs
// on the pool.
std::string raw(uint16_t port, const std::string& bytes, const std::string& until = "") {
  const Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    return "no connection";
  size_t sent = 0;
  while (sent < bytes.size()) {
    const ssize_t n = ::send(fd.get(), bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (n <= 0) break;
    sent += static_cast<size_t>(n);
  }
  std::string answer;
  char buffer[65536];
  for (;;) {
    const ssize_t n = ::recv(fd.get(), buffer, sizeof buffer, 0);
    if (n <= 0) return answer;
    answer.append(buffer, static_cast<size_t>(n));
    if (!until.empty() && answer.find(until) != std::string::npos) return answer;
  }
}

// A server, and a pool to block on.
template <class F>
void with_server(ServerOptions options, F body) {
  testing::run_loop([&](Executor executor) -> Async<> {
    Result<Fd> listener = listen_tcp("127.0.0.1", 0);
    EXPECT_TRUE(listener.has_value());
    if (!listener) co_return;
    const uint16_t port = port_of(*listener);
    BlockingPool pool(1);
    Server server(executor, std::move(*listener), handle, options);
    server.start();
    co_await body(port, pool);
    co_await server.stop(0ms);
  });
}

TEST(Http, FetchesWhatTheServerAnswers) {
  with_server({}, [](uint16_t port, BlockingPool&) -> Async<> {
    const Endpoint here{"127.0.0.1", port};
    const auto get = [&](std::string path) -> Async<Result<Response>> {
      Request request{.method = "GET", .target = std::move(path)};
      return fetch(here, std::move(request), "", 10s, 64 * 1024 * 1024);
    };
    const Result<Response> missing = co_await get("/x");
    EXPECT_EQ(missing->status, 404);
    EXPECT_EQ(missing->body, "nothing at /x");
    const Result<Response> streamed = co_await get("/stream");
    EXPECT_EQ(streamed->body, "piece0;piece1;piece2;");
    EXPECT_EQ(streamed->headers.get("transfer-encoding"), "chunked");
    const Result<Response> big = co_await get("/big");
    EXPECT_EQ(big->body.size(), 10'000'000u);
    const Result<Response> silent = co_await get("/silent");
    EXPECT_EQ(silent->status, 500);
    const Result<Response> cut = co_await get("/short");
    EXPECT_FALSE(cut.has_value());
    const Result<Response> injected = co_await get("/injected");
    EXPECT_EQ(injected->headers.find("set-cookie"), nullptr);
    const Result<Response> peer = co_await get("/peer");
    EXPECT_TRUE(peer->body.starts_with("127.0.0.1:")) << peer->body;
  });
}

TEST(Http, EchoesBodiesOfAnySize) {
  with_server({}, [](uint16_t port, BlockingPool&) -> Async<> {
    for (const size_t size : {size_t{0}, size_t{1}, kChunkBytesMax - 1, kChunkBytesMax,
                              kChunkBytesMax + 1, size_t{20'000'000}}) {
      std::string body(size, 'x');
      if (size > 2) body[size / 2] = 'y';
      Request request{.method = "POST", .target = "/echo"};
      const Result<Response> response =
          co_await fetch({"127.0.0.1", port}, std::move(request), body, 30s, 64 * 1024 * 1024);
      EXPECT_TRUE(response.has_value());
      if (response) EXPECT_TRUE(response->body == body) << size;
    }
  });
}

TEST(Http, RefusesAnAnswerOverTheLimit) {
  with_server({}, [](uint16_t port, BlockingPool&) -> Async<> {
    Request request{.method = "GET", .target = "/big"};
    const Result<Response> response =
        co_await fetch({"127.0.0.1", port}, std::move(request), "", 10s, 1000);
    EXPECT_FALSE(response.has_value());
    if (!response) EXPECT_EQ(response.error().code, Code::kLimit);
  });
}

TEST(Http, StreamsToASinkAndStopsWhenItFails) {
  with_server({}, [](uint16_t port, BlockingPool&) -> Async<> {
    size_t seen = 0;
    Request request{.method = "GET", .target = "/big"};
    const Result<Response> response =
        co_await fetch_streaming({"127.0.0.1", port}, std::move(request), "", 10s,
                                 [&seen](std::string piece) -> Async<Result<void>> {
                                   seen += piece.size();
                                   if (seen > 1'000'000) co_return fail(Code::kLimit, "enough");
                                   co_return Result<void>();
                                 });
    EXPECT_FALSE(response.has_value());
    EXPECT_LT(seen, 2'000'000u);
  });
}

TEST(Http, ServesRawRequests) {
  const std::string host = "Host: a\r\n";
  struct Case {
    const char* name;
    std::string bytes;
    std::string want;      // starts with
    std::string has = "";  // somewhere
  };
  const std::vector<Case> cases = {
      {"pipelined, in order",
       "GET /1 HTTP/1.1\r\n" + host + "\r\nGET /2 HTTP/1.1\r\n" + host +
           "Connection: close\r\n\r\n",
       "HTTP/1.1 404 Not Found\r\n", "nothing at /2"},
      {"pipelined behind a body",
       "POST /echo HTTP/1.1\r\n" + host + "Content-Length: 3\r\n\r\nabcGET /2 HTTP/1.1\r\n" + host +
           "Connection: close\r\n\r\n",
       "HTTP/1.1 200 OK\r\n", "nothing at /2"},
      {"behind a chunked body that nobody read",
       "POST /x HTTP/1.1\r\n" + host +
           "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET /2 HTTP/1.1\r\n" + host +
           "Connection: close\r\n\r\n",
       "HTTP/1.1 404 Not Found\r\n", "nothing at /2"},
      {"chunked",
       "POST /echo HTTP/1.1\r\n" + host +
           "Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
       "HTTP/1.1 200 OK\r\n", "\r\n\r\nabc"},
      {"HEAD has no body", "HEAD /x HTTP/1.1\r\n" + host + "Connection: close\r\n\r\n",
       "HTTP/1.1 404 Not Found\r\n", "Content-Length: 13\r\n"},
      {"HTTP/1.0 closes and is not chunked", "GET /stream HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK\r\n",
       "Connection: close\r\n\r\npiece0;piece1;piece2;"},
      {"expect",
       "POST /echo HTTP/1.1\r\n" + host +
           "Connection: close\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
       "HTTP/1.1 200 OK\r\n", "abc"},
      {"expect, the body not wanted: no 100, closed",
       "POST /x HTTP/1.1\r\n" + host + "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n",
       "HTTP/1.1 404 Not Found\r\n", "Connection: close\r\n"},
      {"not HTTP", "\x16\x03\x01", "HTTP/1.1 400 Bad Request\r\n", "Connection: close\r\n"},
      {"both framings",
       "POST /echo HTTP/1.1\r\n" + host +
           "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
       "HTTP/1.1 400 Bad Request\r\n"},
      {"broken chunk", "POST /echo HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\nxyz",
       "HTTP/1.1 400 Bad Request\r\n", "Connection: close\r\n"},
      {"long target", "GET /" + std::string(20'000, 'a') + " HTTP/1.1\r\n" + host + "\r\n",
       "HTTP/1.1 414 URI Too Long\r\n"},
      {"large head", "GET / HTTP/1.1\r\n" + host + "X: " + std::string(70'000, 'a') + "\r\n\r\n",
       "HTTP/1.1 431 "},
      {"another Expect", "POST / HTTP/1.1\r\n" + host + "Expect: a\r\nContent-Length: 1\r\n\r\nx",
       "HTTP/1.1 417 "},
  };
  with_server({}, [&cases](uint16_t port, BlockingPool& pool) -> Async<> {
    for (const Case& c : cases) {
      const std::string answer =
          co_await on_pool(pool, [port, bytes = c.bytes] { return raw(port, bytes); });
      EXPECT_TRUE(answer.starts_with(c.want)) << c.name << ": " << answer.substr(0, 300);
      EXPECT_NE(answer.find(c.has), std::string::npos) << c.name << ": " << answer.substr(0, 600);
    }
  });
}

TEST(Http, AHeadAnswerHasNoBody) {
  with_server({}, [](uint16_t port, BlockingPool& pool) -> Async<> {
    const std::string answer = co_await on_pool(pool, [port] {
      return raw(port, "HEAD /stream HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    });
    EXPECT_TRUE(answer.ends_with("\r\n\r\n")) << answer;
  });
}

TEST(Http, Sends100OnlyWhenTheBodyIsWanted) {
  with_server({}, [](uint16_t port, BlockingPool& pool) -> Async<> {
    const std::string answer = co_await on_pool(pool, [port] {
      return raw(
          port,
          "POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
          "\r\n\r\n");
    });
    EXPECT_EQ(answer, "HTTP/1.1 100 Continue\r\n\r\n");
  });
}

TEST(Http, TimesOut) {
  const ServerOptions quick{.header_timeout = 50ms, .body_idle_timeout = 50ms, .keep_alive = 50ms};
  with_server(quick, [](uint16_t port, BlockingPool& pool) -> Async<> {
    const auto ask = [&](std::string bytes) -> Async<std::string> {
      return on_pool(pool, [port, bytes = std::move(bytes)] { return raw(port, bytes); });
    };
    const std::string half = co_await ask("GET / HT");
    EXPECT_TRUE(half.starts_with("HTTP/1.1 408 ")) << half;
    const std::string nothing = co_await ask("");
    EXPECT_EQ(nothing, "");  // idle: closed without a word
    const std::string body =
        co_await ask("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na");
    EXPECT_TRUE(body.starts_with("HTTP/1.1 400 ")) << body;
  });
}

TEST(Http, ServesAUnixSocketAndSaysWhoAsks) {
  const std::string path = fmt::format("{}/hob-http-test-{}.sock",
                                       std::filesystem::temp_directory_path().string(), getpid());
  testing::run_loop([&](Executor executor) -> Async<> {
    Result<Fd> listener = listen_unix(path, 0600);
    EXPECT_TRUE(listener.has_value());
    const Result<Fd> second = listen_unix(path, 0600);
    EXPECT_FALSE(second.has_value());
    if (!second) EXPECT_EQ(second.error().code, Code::kExists);
    Server server(executor, std::move(*listener), handle);
    server.start();
    Request request{.method = "GET", .target = "/peer"};
    const Result<Response> response = co_await fetch({path, 0}, std::move(request), "", 10s, 1000);
    EXPECT_TRUE(response.has_value());
    if (response) EXPECT_EQ(response->body, fmt::format("unix:uid={}", getuid()));
    co_await server.stop(1s);
  });
  // What a killed process leaves behind is replaced.
  EXPECT_TRUE(listen_unix(path, 0600).has_value());
  ::unlink(path.c_str());
}

TEST(Http, RefusesATakenPort) {
  const Result<Fd> first = listen_tcp("127.0.0.1", 0);
  const Result<Fd> second = listen_tcp("127.0.0.1", port_of(*first));
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().code, Code::kExists);
  const Result<Fd> name = listen_tcp("example", 1);
  EXPECT_EQ(name.error().code, Code::kInvalid);
}

TEST(Http, FetchFailsWhenNobodyListens) {
  testing::run_loop([](Executor) -> Async<> {
    uint16_t port = 0;
    {
      const Result<Fd> listener = listen_tcp("127.0.0.1", 0);
      port = port_of(*listener);
    }
    Request request{.method = "GET", .target = "/"};
    const Result<Response> response =
        co_await fetch({"127.0.0.1", port}, std::move(request), "", 5s, 1000);
    EXPECT_FALSE(response.has_value());
    if (!response) EXPECT_EQ(response.error().code, Code::kUnavailable);
  });
}

TEST(Http, FetchTimesOutWhenNobodyAnswers) {
  testing::run_loop([](Executor) -> Async<> {
    const Result<Fd> listener = listen_tcp("127.0.0.1", 0);
    Request request{.method = "GET", .target = "/"};
    const Result<Response> response =
        co_await fetch({"127.0.0.1", port_of(*listener)}, std::move(request), "", 50ms, 1000);
    EXPECT_FALSE(response.has_value());
    if (!response) EXPECT_EQ(response.error().code, Code::kTimeout);
  });
}

TEST(Http, StopLetsARunningRequestEnd) {
  testing::run_loop([](Executor executor) -> Async<> {
    Result<Fd> listener = listen_tcp("127.0.0.1", 0);
    const uint16_t port = port_of(*listener);
    Event entered(executor);
    Event go_on(executor);
    Server server(executor, std::move(*listener),
                  [&](const Request&, BodyReader&, Responder& responder) -> Async<> {
                    entered.set();
                    co_await go_on.wait();
                    Response response{.body = "done"};
                    (void)co_await responder.respond(std::move(response));
                  });
    server.start();
    AsyncScope scope(executor);
    std::string got;
    scope.spawn("client", [&]() -> Async<> {
      Request request{.method = "GET", .target = "/"};
      const Result<Response> response =
          co_await fetch({"127.0.0.1", port}, std::move(request), "", 10s, 1000);
      if (response) got = response->body + std::string(response->headers.get("connection"));
    });
    co_await entered.wait();
    scope.spawn("release", [&]() -> Async<> {
      go_on.set();
      co_return;
    });
    co_await server.stop(10s);
    co_await scope.join();
    EXPECT_EQ(got, "doneclose");
  });
}

TEST(Http, StopCancelsAHandlerThatNeverEnds) {
  testing::run_loop([](Executor executor) -> Async<> {
    Result<Fd> listener = listen_tcp("127.0.0.1", 0);
    const uint16_t port = port_of(*listener);
    Event entered(executor);
    Event never(executor);
    Server server(executor, std::move(*listener),
                  [&](const Request&, BodyReader&, Responder&) -> Async<> {
                    entered.set();
                    co_await never.wait();
                  });
    server.start();
    AsyncScope scope(executor);
    scope.spawn("client", [&]() -> Async<> {
      Request request{.method = "GET", .target = "/"};
      const Result<Response> response =
          co_await fetch({"127.0.0.1", port}, std::move(request), "", 10s, 1000);
      EXPECT_FALSE(response.has_value());
    });
    co_await entered.wait();
    co_await server.stop(0ms);
    co_await scope.join();
  });
}

TEST(HttpText, Escapes) {
  EXPECT_EQ(percent_decode("a%2Fb+c", Plus::kLiteral), "a/b+c");
  EXPECT_EQ(percent_decode("a%2fb+c", Plus::kSpace), "a/b c");
  for (const char* broken : {"%", "%2", "%2g", "%%20"})
    EXPECT_EQ(percent_decode(broken, Plus::kLiteral), std::nullopt);
  EXPECT_EQ(percent_encode("a/b c~\xff", Slash::kEscape), "a%2Fb%20c~%FF");
  EXPECT_EQ(percent_encode("a/b", Slash::kKeep), "a/b");
  const auto pairs = parse_query("a=1&b=%26&&c&d=x=y&a=2+3");
  ASSERT_TRUE(pairs.has_value());
  const std::vector<std::pair<std::string, std::string>> want = {
      {"a", "1"}, {"b", "&"}, {"c", ""}, {"d", "x=y"}, {"a", "2 3"}};
  EXPECT_EQ(*pairs, want);
  EXPECT_FALSE(parse_query("a=%zz").has_value());
  std::string many;
  for (int i = 0; i < 1001; ++i) many += "a=1&";
  EXPECT_FALSE(parse_query(many).has_value());
}

TEST(HttpText, HeadersCompareWithoutCase) {
  Headers headers;
  headers.add("Content-Type", "a");
  headers.add("content-type", "b");
  EXPECT_EQ(headers.get("CONTENT-TYPE"), "a");
  headers.set("content-TYPE", "c");
  EXPECT_EQ(headers.all().size(), 1u);
  headers.remove("Content-Type");
  EXPECT_EQ(headers.find("content-type"), nullptr);
}

}  // namespace
}  // namespace hob::http
