#include "link/link.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>

#include "base/http.h"
#include "base/testing_loop.h"
#include "link/frame.h"

namespace hob::link {
namespace {

using namespace std::chrono_literals;

std::string socket_path() {
  return fmt::format("{}/hob-link-test-{}.sock", std::filesystem::temp_directory_path().string(),
                     getpid());
}

// A peer that speaks in raw bytes; blocking.
Fd raw_peer(const std::string& path) {
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  return fd;
}

// A listener whose sessions are given to `serve`; `body` is the test.
template <class F>
void with_listener(std::set<uid_t> uids, Timing timing, Listener::Serve serve, F body) {
  testing::run_loop([&](Executor executor) -> Async<> {
    const std::string path = socket_path();
    Result<Fd> fd = http::listen_unix(path, 0600);
    EXPECT_TRUE(fd.has_value());
    if (!fd) co_return;
    Listener listener(executor, std::move(*fd), std::move(uids), serve, timing);
    listener.start();
    AsyncScope scope(executor);
    co_await body(scope, path);
    scope.cancel();
    co_await scope.join();
    co_await listener.stop();
    ::unlink(path.c_str());
  });
}

Async<> echo(std::shared_ptr<Session> session) {
  for (;;) {
    Result<Message> message = co_await session->receive();
    if (!message) co_return;
    (void)session->send(std::move(*message));
  }
}

TEST(Link, KeepsOrderBothWays) {
  with_listener({getuid()}, {}, echo, [](AsyncScope& scope, std::string path) -> Async<> {
    const Result<std::shared_ptr<Session>> session = co_await connect(scope, path);
    EXPECT_TRUE(session.has_value());
    if (!session) co_return;
    EXPECT_EQ((*session)->peer_uid(), getuid());
    constexpr int kCount = 5000;
    for (int i = 0; i < kCount; ++i)
      EXPECT_TRUE((*session)->send({"Number", std::to_string(i)}).has_value());
    for (int i = 0; i < kCount; ++i) {
      const Result<Message> message = co_await (*session)->receive();
      EXPECT_TRUE(message.has_value());
      if (!message) co_return;
      EXPECT_EQ(message->body, std::to_string(i));
    }
  });
}

TEST(Link, CarriesLargeMessagesAndRefusesLargerOnes) {
  with_listener({getuid()}, {}, echo, [](AsyncScope& scope, std::string path) -> Async<> {
    const Result<std::shared_ptr<Session>> session = co_await connect(scope, path);
    const std::string body(kFrameBytesMax - 2, 'x');
    EXPECT_TRUE((*session)->send({"A", body}).has_value());
    const Result<Message> message = co_await (*session)->receive();
    EXPECT_TRUE(message.has_value() && message->body == body);
    const Result<void> larger = (*session)->send({"A", body + "x"});
    EXPECT_FALSE(larger.has_value());
    if (!larger) EXPECT_EQ(larger.error().code, Code::kLimit);
  });
}

TEST(Link, RefusesOtherUsers) {
  with_listener({getuid() + 1}, {}, echo, [](AsyncScope& scope, std::string path) -> Async<> {
    const Result<std::shared_ptr<Session>> session = co_await connect(scope, path);
    const Result<Message> message = co_await (*session)->receive();
    EXPECT_FALSE(message.has_value());
  });
}

TEST(Link, FailsWhenNobodyListens) {
  testing::run_loop([](Executor executor) -> Async<> {
    AsyncScope scope(executor);
    const Result<std::shared_ptr<Session>> session = co_await connect(scope, "/nonexistent/socket");
    EXPECT_FALSE(session.has_value());
    if (!session) EXPECT_EQ(session.error().code, Code::kUnavailable);
    co_await scope.join();
  });
}

TEST(Link, EndsWhenThePeerGoesAway) {
  with_listener(
      {getuid()}, {}, [](std::shared_ptr<Session>) -> Async<> { co_return; },
      [](AsyncScope& scope, std::string path) -> Async<> {
        const Result<std::shared_ptr<Session>> session = co_await connect(scope, path);
        const Result<Message> message = co_await (*session)->receive();
        EXPECT_FALSE(message.has_value());
        if (!message) EXPECT_EQ(message.error().code, Code::kUnavailable);
        EXPECT_FALSE((*session)->send({"A", ""}).has_value());
      });
}

TEST(Link, EndsWhenThePeerIsSilent) {
  Result<Message> got;
  Event* ended = nullptr;
  const auto serve = [&](std::shared_ptr<Session> session) -> Async<> {
    got = co_await session->receive();
    ended->set();
  };
  with_listener({getuid()}, {.ping = 5s, .silence = 20ms}, serve,
                [&](AsyncScope& scope, std::string path) -> Async<> {
                  Event event(scope.executor());
                  ended = &event;
                  const Fd peer = raw_peer(path);
                  co_await event.wait();
                  EXPECT_FALSE(got.has_value());
                });
}

TEST(Link, PingsKeepAQuietLinkUp) {
  const Timing timing{.ping = 5ms, .silence = 200ms};
  with_listener({getuid()}, timing, echo, [&](AsyncScope& scope, std::string path) -> Async<> {
    const Result<std::shared_ptr<Session>> session = co_await connect(scope, path, timing);
    // Nothing is said for longer than the silence allowed; then it still works.
    const Result<Message> nothing = co_await within(500ms, (*session)->receive());
    EXPECT_FALSE(nothing.has_value());
    if (!nothing) EXPECT_EQ(nothing.error().code, Code::kTimeout);
    EXPECT_TRUE((*session)->send({"A", "still here"}).has_value());
    const Result<Message> message = co_await (*session)->receive();
    EXPECT_TRUE(message.has_value() && message->body == "still here");
  });
}

TEST(Link, EndsAtABadFrame) {
  for (const std::string& bytes : {std::string("\xff\xff\xff\xff", 4),
                                   std::string("\0\0\0\x02{}", 6), std::string("\0\0\0\x03\n{}", 7),
                                   std::string("\0\0\0\x04"
                                               "a b\n",
                                               8)}) {
    Result<Message> got;
    Event* ended = nullptr;
    const auto serve = [&](std::shared_ptr<Session> session) -> Async<> {
      got = co_await session->receive();
      ended->set();
    };
    with_listener({getuid()}, {}, serve, [&](AsyncScope& scope, std::string path) -> Async<> {
      Event event(scope.executor());
      ended = &event;
      const Fd peer = raw_peer(path);
      EXPECT_EQ(::write(peer.get(), bytes.data(), bytes.size()),
                static_cast<ssize_t>(bytes.size()));
      co_await event.wait();
      EXPECT_FALSE(got.has_value());
    });
  }
}

TEST(Link, WhatWasFlushedIsReadThoughTheLinkIsClosedThen) {
  constexpr int kCount = 40;
  int got = 0;
  Event* ended = nullptr;
  const auto serve = [&](std::shared_ptr<Session> session) -> Async<> {
    while (co_await session->receive()) ++got;
    ended->set();
  };
  with_listener({getuid()}, {}, serve, [&](AsyncScope& scope, std::string path) -> Async<> {
    Event event(scope.executor());
    ended = &event;
    const Result<std::shared_ptr<Session>> session = co_await connect(scope, path);
    // More than a socket takes at once.
    for (int i = 0; i < kCount; ++i)
      EXPECT_TRUE((*session)->send({"A", std::string(100'000, 'x')}).has_value());
    EXPECT_TRUE((co_await (*session)->flush()).has_value());
    EXPECT_TRUE((co_await (*session)->flush()).has_value());  // of nothing
    (*session)->close();
    co_await event.wait();
    EXPECT_EQ(got, kCount);
    const Result<void> late = co_await (*session)->flush();
    EXPECT_TRUE(late.has_value());
    EXPECT_FALSE((*session)->send({"A", ""}).has_value());
  });
}

TEST(Link, FlushWaitsForAPeerThatDoesNotRead) {
  const auto serve = [](std::shared_ptr<Session> session) -> Async<> {
    while (co_await session->receive()) co_await sleep_for(1h);
  };
  with_listener({getuid()}, {}, serve, [](AsyncScope& scope, std::string path) -> Async<> {
    const Result<std::shared_ptr<Session>> session = co_await connect(scope, path);
    for (int i = 0; i < 2; ++i)
      EXPECT_TRUE((*session)->send({"A", std::string(8'000'000, 'x')}).has_value());
    const Result<void> early = co_await within(20ms, (*session)->flush());
    EXPECT_TRUE(!early && early.error().code == Code::kTimeout);
    (*session)->close();
    const Result<void> never = co_await (*session)->flush();
    EXPECT_TRUE(!never && never.error().code == Code::kUnavailable);
  });
}

TEST(Link, WhatThePeerSaidBeforeItLeftIsHeardThoughWritingFails) {
  Result<Message> got;
  Event* begun = nullptr;
  Event* left = nullptr;
  Event* ended = nullptr;
  const auto serve = [&](std::shared_ptr<Session> session) -> Async<> {
    begun->set();
    co_await left->wait();
    EXPECT_TRUE(session->send({"B", "nobody reads this"}).has_value());
    EXPECT_FALSE((co_await session->flush()).has_value());
    EXPECT_FALSE(session->send({"B", ""}).has_value());
    got = co_await session->receive();
    EXPECT_FALSE((co_await session->receive()).has_value());
    ended->set();
  };
  with_listener({getuid()}, {}, serve, [&](AsyncScope& scope, std::string path) -> Async<> {
    Event events[] = {Event(scope.executor()), Event(scope.executor()), Event(scope.executor())};
    begun = &events[0];
    left = &events[1];
    ended = &events[2];
    Fd peer = raw_peer(path);
    const Result<std::string> frame = encode_frame({"A", "bye"});
    EXPECT_EQ(::write(peer.get(), frame->data(), frame->size()),
              static_cast<ssize_t>(frame->size()));
    co_await begun->wait();
    peer.reset();
    left->set();
    co_await ended->wait();
    EXPECT_TRUE(got.has_value() && got->body == "bye");
  });
}

TEST(Link, EndsWhenThePeerDoesNotRead) {
  Event* begun = nullptr;
  std::optional<Error> refused;
  const auto serve = [&](std::shared_ptr<Session> session) -> Async<> {
    // No await: nothing of it can be written meanwhile.
    for (size_t i = 0; i <= kSendQueueMax && !refused; ++i) {
      const Result<void> sent = session->send({"A", "x"});
      if (!sent) refused = sent.error();
    }
    begun->set();
    co_return;
  };
  with_listener({getuid()}, {}, serve, [&](AsyncScope& scope, std::string path) -> Async<> {
    Event event(scope.executor());
    begun = &event;
    const Fd peer = raw_peer(path);
    co_await event.wait();
    EXPECT_TRUE(refused.has_value() && refused->code == Code::kUnavailable);
  });
}

}  // namespace
}  // namespace hob::link
