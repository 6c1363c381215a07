#include "certify/fetch.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <boost/asio/io_context.hpp>

#include "base/http.h"

namespace hob::certify {
namespace {

// What a server on this machine was asked, and the answer.
struct Fetched {
  int asked = 0;
  Result<FetchAnswer> answer = fail(Code::kCancelled, "not asked");
};

Fetched fetch_here(bool public_only, const std::string& host) {
  boost::asio::io_context loop(1);
  BlockingPool pool(1);
  CurlFetcher fetcher(pool);
  Fetched fetched;
  auto listener = http::listen_tcp("127.0.0.1", 0);
  EXPECT_TRUE(listener.has_value());
  sockaddr_in at{};
  socklen_t size = sizeof at;
  EXPECT_EQ(::getsockname(listener->get(), reinterpret_cast<sockaddr*>(&at), &size), 0);
  http::Server server(
      loop.get_executor(), std::move(*listener),
      [&](const http::Request&, http::BodyReader&, http::Responder& responder) -> Async<> {
        ++fetched.asked;
        static_cast<void>(co_await responder.respond(http::Response{}));
      });
  server.start();
  FetchRequest request{.url = fmt::format("http://{}:{}/", host, ntohs(at.sin_port)),
                       .https_only = false,
                       .public_only = public_only};
  boost::asio::co_spawn(
      loop,
      [&]() -> Async<> {
        fetched.answer = co_await fetcher.fetch(std::move(request));
        co_await server.stop(Duration(0));
        loop.stop();
      },
      [](std::exception_ptr exception) {
        if (exception) std::rethrow_exception(exception);
      });
  loop.run();
  pool.join();
  return fetched;
}

TEST(Fetch, AsksThisMachineOnlyWhereItMay) {
  for (const char* host : {"127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]"}) {
    const Fetched refused = fetch_here(true, host);
    EXPECT_EQ(refused.asked, 0) << host;
    ASSERT_FALSE(refused.answer.has_value()) << host;
    EXPECT_EQ(refused.answer.error().code, Code::kUnavailable) << refused.answer.error().message;
  }
  const Fetched allowed = fetch_here(false, "127.0.0.1");
  EXPECT_EQ(allowed.asked, 1);
  EXPECT_TRUE(allowed.answer.has_value());
}

}  // namespace
}  // namespace hob::certify
