// WebSockets where one side or both speak HTTP/2 (RFC 8441). What goes through them is not looked
// at, so that here it is plain text.
#include <gtest/gtest.h>

#include "edge/http2_limits.h"
#include "edge/http2_test_rig.h"
#include "edge/websocket.h"

namespace hob::edge {
namespace {

const std::string kOffer = big_endian(8, 2) + big_endian(1, 4);

Fields websocket(const std::string& path) {
  return {{":method", "CONNECT"},
          {":protocol", "websocket"},
          {":scheme", "http"},
          {":path", path},
          {":authority", "test.local"},
          {"sec-websocket-version", "13"},
          {"sec-websocket-protocol", "a"}};
}

std::string field_of(std::string_view head, const std::string& name) {
  http::RequestHead parsed;
  if (http::parse(head, parsed) != http::Parsed::kDone) return {};
  const http::Field* field = parsed.find(name);
  return field != nullptr ? std::string(field->value) : std::string();
}

std::string switching(std::string_view head) {
  return "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n"
         "Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Accept: " +
         websocket_accept(field_of(head, "sec-websocket-key")) + "\r\n\r\n";
}

// A target of HTTP/1.1: does as the path says, or switches and gives back what it gets.
void serve_http1(Connection& connection, Backend& backend) {
  const std::string head = connection.read_head();
  if (head.empty()) return;
  backend.note(head);
  if (head.starts_with("GET /gate ")) backend.gate.wait();
  if (head.starts_with("GET /403 ")) {
    connection.write("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
    return serve_http1(connection, backend);
  }
  if (head.starts_with("GET /200 ")) connection.write(answer_with("a page"));
  if (head.starts_with("GET /key ")) {
    connection.write(switching("GET / HTTP/1.1\r\nHost: x\r\nSec-WebSocket-Key: a\r\n\r\n"));
  } else if (head.starts_with("GET /else ")) {
    connection.write("HTTP/1.1 101 Other\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n");
  } else if (head.starts_with("GET /break ")) {
    connection.write(switching(head) + "so far");
    connection.reset();
    return;
  } else {
    connection.write(switching(head));
  }
  while (!connection.buffer().empty() || connection.fill()) {
    if (!connection.write(connection.take(connection.buffer().size()))) return;
  }
  connection.write("bye");
}

// A target of HTTP/2 that offers WebSockets: the same, many at a time.
class EchoTarget {
 public:
  EchoTarget(Connection& connection, Backend& backend)
      : target_(connection, kOffer + big_endian(4, 2) + big_endian(1 << 30, 4)), backend_(backend) {
    target_.send(frame(kWindow, 0, 0, big_endian(1 << 30, 4)));
  }
  void serve() {
    for (Frame got = target_.next(); got.type != -1; got = target_.next()) take(got);
  }

 private:
  struct Stream {
    std::string back{};
    int64_t window = kHttp2DefaultWindow;
  };
  void take(const Frame& got) {
    if (got.type == kHeaders) {
      const std::string lines = target_.lines_of(got.payload);
      backend_.note(lines);
      if (lines.find(":path: /403\n") != std::string::npos) {
        target_.answer(got.stream, {{":status", "403"}, {"content-length", "2"}}, false);
        target_.send(frame(kData, kEndStream, got.stream, "no"));
      } else {
        target_.answer(got.stream, {{":status", "200"}, {"sec-websocket-protocol", "a"}}, false);
      }
    } else if (got.type == kReset) {
      backend_.note("reset " + std::to_string(got.code()));
    } else if (got.type == kWindow) {
      (got.stream == 0 ? window_ : streams_[got.stream].window) += got.code();
      for (auto& [id, stream] : streams_) give_back(id, stream);
    } else if (got.type == kData) {
      Stream& stream = streams_[got.stream];
      stream.back += got.payload;
      give_back(got.stream, stream);
      if ((got.flags & kEndStream) != 0) target_.send(frame(kData, kEndStream, got.stream, "bye"));
    }
  }
  void give_back(uint32_t id, Stream& stream) {
    while (!stream.back.empty() && stream.window > 0 && window_ > 0) {
      const auto count = std::min<size_t>(
          {stream.back.size(), 16'384, static_cast<size_t>(std::min(stream.window, window_))});
      target_.send(frame(kData, 0, id, stream.back.substr(0, count)));
      target_.send(frame(kWindow, 0, id, big_endian(count, 4)));
      stream.back.erase(0, count);
      stream.window -= static_cast<int64_t>(count);
      window_ -= static_cast<int64_t>(count);
    }
  }
  H2Target target_;
  Backend& backend_;
  std::map<uint32_t, Stream> streams_;
  int64_t window_ = kHttp2DefaultWindow;
};
void serve_http2(Connection& connection, Backend& backend) {
  EchoTarget(connection, backend).serve();
}

class WebSocket : public ::testing::TestWithParam<Io> {
 protected:
  void start(const Backend& backend, link::TargetProtocol protocol, Times times = {}) {
    rig_.emplace(GetParam(), 1, times);
    apply(backend, protocol, [](link::Route&) {});
  }
  template <class Change>
  void apply(const Backend& backend, link::TargetProtocol protocol, Change change) {
    link::Route route = rig_->route({&backend});
    route.protocol = protocol;
    route.max_concurrency = 1000;
    change(route);
    rig_->apply({route});
  }
  // An answer of the edge to a client of HTTP/1.1; the connection is then the tunnel.
  Answer open_by_http1(Connection& client, const std::string& path,
                       const std::string& key = "dGhlIHNhbXBsZSBub25jZQ==") const {
    client.write("GET " + path +
                 " HTTP/1.1\r\nHost: test.local\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                 "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: a\r\nSec-WebSocket-Key: " +
                 key + "\r\n\r\n");
    http::ResponseHead head;
    while (http::parse(client.buffer(), head, "GET") == http::Parsed::kMore && client.fill()) {
    }
    if (head.code == 101) return {.status = 101, .head = client.take(head.bytes)};
    return read_answer(client);
  }
  void open(H2Client& client, uint32_t stream, const std::string& path) {
    client.send(frame(kHeaders, kEndHeaders, stream, block_of(websocket(path))));
  }
  void expect_echo(H2Client& client, uint32_t stream) {
    client.send(frame(kData, 0, stream, "one") + frame(kData, 0, stream, "two"));
    while (client.so_far(stream).body.size() < 6 && client.take(client.next())) {
    }
    EXPECT_EQ(client.so_far(stream).body, "onetwo");
    client.send(frame(kData, kEndStream, stream, "three"));
    const Reply reply = client.reply(stream);
    EXPECT_TRUE(reply.ended);
    EXPECT_EQ(reply.body, "onetwothreebye") << "what the target says when its client has ended";
  }

  std::optional<Rig> rig_;
};
constexpr link::TargetProtocol kHttp1 = link::TargetProtocol::kHttp1;
constexpr link::TargetProtocol kHttp2 = link::TargetProtocol::kHttp2;

TEST(WebSocketHandshake, IsRfc6455s) {
  EXPECT_EQ(websocket_accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
  EXPECT_EQ(websocket_key(0, 0), "AAAAAAAAAAAAAAAAAAAAAA==");
  EXPECT_NE(websocket_key(1, 2), websocket_key(2, 1));
  struct Case {
    const char* name;
    const char* head;
    bool asks;
  };
  const std::string key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
  for (const Case& c : {
           Case{"as it should", "GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: WebSocket\r\n",
                true},
           Case{"POST", "POST / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n", false},
           Case{"no Connection", "GET / HTTP/1.1\r\nUpgrade: websocket\r\n", false},
           Case{"more to choose from",
                "GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket, echo\r\n", false},
           Case{"a body",
                "GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: "
                "1\r\n",
                false},
           Case{"a second key",
                "GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\nsec-websocket-key: "
                "x\r\n",
                false},
       }) {
    http::RequestHead head;
    const std::string text = c.head + key + "Host: x\r\n\r\n";
    ASSERT_EQ(http::parse(text, head), http::Parsed::kDone) << c.name;
    EXPECT_EQ(!websocket_key_of(head).empty(), c.asks) << c.name;
  }
}

TEST_P(WebSocket, FromHttp2ToHttp1) {
  Backend backend(serve_http1);
  start(backend, kHttp1);
  H2Client client(rig_->port());
  const Frame settings = client.next();
  EXPECT_NE(settings.payload.find(kOffer), std::string::npos) << "it is offered";
  Fields fields = websocket("/chat?room=1");
  fields.push_back({"sec-websocket-key", "the client's own"});
  client.send(frame(kHeaders, kEndHeaders, 1, block_of(fields)));
  expect_echo(client, 1);
  EXPECT_EQ(client.so_far(1).head, ":status: 200\nsec-websocket-protocol: a\n");
  const std::string head = backend.requests().front();
  EXPECT_TRUE(head.starts_with("GET /chat?room=1 HTTP/1.1\r\nhost: test.local\r\n")) << head;
  for (const char* line : {"Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: ",
                           "sec-websocket-version: 13\r\n", "X-Forwarded-For: 127.0.0.1\r\n"})
    EXPECT_NE(head.find(line), std::string::npos) << line << head;
  EXPECT_EQ(field_of(head, "sec-websocket-key").size(), 24u) << head;
  open(client, 3, "/");
  expect_echo(client, 3);
  EXPECT_NE(field_of(backend.requests().back(), "sec-websocket-key"),
            field_of(head, "sec-websocket-key"));
}

TEST_P(WebSocket, FromHttp1ToHttp2) {
  Backend backend(serve_http2);
  start(backend, kHttp2);
  Connection client = rig_->connect();
  const Answer answer = open_by_http1(client, "/chat?room=1");
  EXPECT_EQ(answer.status, 101);
  EXPECT_TRUE(answer.has("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n")) << answer.head;
  EXPECT_TRUE(answer.has("sec-websocket-protocol: a\r\n")) << answer.head;
  client.write("hello");
  EXPECT_EQ(client.read_exactly(5), "hello");
  client.shut();
  EXPECT_EQ(client.read_to_end(), "bye");
  const std::string lines = backend.requests().front();
  EXPECT_TRUE(
      lines.starts_with(":method: CONNECT\n:protocol: websocket\n:scheme: http\n"
                        ":path: /chat?room=1\n:authority: test.local\n"))
      << lines;
  for (const char* none : {"\nupgrade", "\nconnection", "websocket-key"})
    EXPECT_EQ(lines.find(none), std::string::npos) << lines;
  // Without a key it is asked for a page.
  Connection keyless = rig_->connect();
  keyless.write(
      "GET /403 HTTP/1.1\r\nHost: test.local\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
  EXPECT_EQ(read_answer(keyless).body, "no");
  EXPECT_TRUE(backend.requests().back().starts_with(":method: GET\n")) << backend.requests().back();
}

TEST_P(WebSocket, FromHttp2ToHttp2) {
  Backend backend(serve_http2);
  start(backend, kHttp2);
  H2Client client(rig_->port());
  for (uint32_t stream = 1; stream < 20; stream += 2) {
    open(client, stream, "/");
    expect_echo(client, stream);
    EXPECT_EQ(client.so_far(stream).head, ":status: 200\nsec-websocket-protocol: a\n");
  }
  EXPECT_EQ(backend.connections(), 1);
}

// HTTP/1.1 on both sides: who has ended is still answered; the target's end is the whole one's.
TEST_P(WebSocket, AClientThatHasEndedIsAnsweredToTheEnd) {
  Backend backend(serve_http1);
  start(backend, kHttp1);
  Connection client = rig_->connect();
  ASSERT_EQ(open_by_http1(client, "/").status, 101);
  client.write("one");
  EXPECT_EQ(client.read_exactly(3), "one");
  client.write("two");
  client.shut();
  EXPECT_EQ(client.read_exactly(6), "twobye") << "what the target says when its client has ended";
  EXPECT_FALSE(client.fill()) << "and then its own end";
}

TEST_P(WebSocket, TwoHundredThousandBytesBothWays) {
  for (const link::TargetProtocol protocol : {kHttp1, kHttp2}) {
    Backend backend(protocol == kHttp1 ? serve_http1 : serve_http2);
    start(backend, protocol);
    H2Client client(rig_->port());
    open(client, 1, "/");
    constexpr size_t kBytes = 200'000;
    int64_t window = kHttp2DefaultWindow;
    int64_t all = kHttp2DefaultWindow;
    for (size_t sent = 0; sent < kBytes || client.so_far(1).body.size() < kBytes;) {
      if (sent < kBytes && window >= 10'000 && all >= 10'000) {
        client.send(frame(kData, 0, 1, std::string(10'000, 'w')));
        sent += 10'000;
        window -= 10'000;
        all -= 10'000;
        continue;
      }
      const Frame got = client.next();
      ASSERT_TRUE(client.take(got)) << sent << " sent";
      if (got.type == kWindow) (got.stream == 0 ? all : window) += got.code();
      if (got.type == kData) {
        const std::string size = big_endian(got.payload.size(), 4);
        client.send(frame(kWindow, 0, 0, size) + frame(kWindow, 0, 1, size));
      }
    }
  }
}

TEST_P(WebSocket, ADeclinedOneIsAnAnswer) {
  for (const link::TargetProtocol protocol : {kHttp1, kHttp2}) {
    Backend backend(protocol == kHttp1 ? serve_http1 : serve_http2);
    start(backend, protocol);
    H2Client client(rig_->port());
    open(client, 1, "/403");
    const Reply reply = client.reply(1);
    EXPECT_TRUE(reply.head.starts_with(":status: 403\n")) << reply.head;
    EXPECT_EQ(reply.body, "no");
    open(client, 3, "/");
    expect_echo(client, 3);
    Connection old = rig_->connect();
    EXPECT_EQ(open_by_http1(old, "/403").body, "no");
    EXPECT_EQ(backend.connections(), protocol == kHttp1 ? 2 : 1)
        << "one that has declined is used again";
  }
}

TEST_P(WebSocket, WhatIsNoSwitchIsNotTakenForOne) {
  Backend backend(serve_http1);
  start(backend, kHttp1);
  H2Client client(rig_->port());
  uint32_t stream = 1;
  for (const char* path : {"/200", "/key", "/else"}) {
    open(client, stream, path);
    const Reply reply = client.reply(stream);
    EXPECT_TRUE(reply.head.starts_with(":status: 502\n")) << path << reply.head;
    stream += 2;
  }
  Fields other = websocket("/");
  other[1].second = "connect-udp";
  client.send(frame(kHeaders, kEndHeaders, stream, block_of(other)));
  EXPECT_TRUE(client.reply(stream).head.starts_with(":status: 501\n"));
}

// No failure of its targets': who asks for WebSockets where there are none must not get them
// ejected.
TEST_P(WebSocket, PagesInTheirPlaceEjectNoTarget) {
  Backend first(serve_http1);
  Backend second(serve_http1);
  start(first, kHttp1);
  link::Route route = rig_->route({&first, &second});
  route.max_concurrency = 1000;
  rig_->apply({route});
  H2Client client(rig_->port());
  uint32_t stream = 1;
  for (size_t i = 0; i < 40; ++i, stream += 2) {
    open(client, stream, "/200");
    client.reply(stream);
  }
  const int before = second.connections() + first.connections();
  EXPECT_EQ(before, 40);
  EXPECT_GT(first.connections(), 10);
  EXPECT_GT(second.connections(), 10);
}

TEST_P(WebSocket, AnHttp2TargetThatOffersNoneIsNotAsked) {
  Backend backend([](Connection& connection, Backend& self) {
    H2Target target(connection);
    for (;;) {
      const auto [stream, lines] = target.next_request();
      if (stream == 0) return;
      self.note(lines);
      target.answer(stream, {{":status", "204"}}, true);
    }
  });
  start(backend, kHttp2);
  H2Client client(rig_->port());
  for (uint32_t stream = 1; stream < 8; stream += 4) {
    open(client, stream, "/");
    const Reply reply = client.reply(stream);
    EXPECT_TRUE(reply.head.starts_with(":status: 501\n")) << reply.head;
    EXPECT_NE(reply.body.find("RFC 8441"), std::string::npos) << reply.body;
    EXPECT_TRUE(client.ask(stream + 2, "/").head.starts_with(":status: 204\n"));
  }
  Connection old = rig_->connect();
  EXPECT_EQ(open_by_http1(old, "/").status, 501);
  EXPECT_EQ(backend.connections(), 1);
  for (const std::string& lines : backend.requests())
    EXPECT_TRUE(lines.starts_with(":method: GET\n")) << lines;
}

// RFC 8441 §3: no extended CONNECT before the settings that offer it. Others are not held up.
TEST_P(WebSocket, WaitsForItsTargetsSettings) {
  Backend backend([](Connection& connection, Backend& self) {
    connection.read_exactly(kPreface.size());
    H2Peer target(connection);
    bool told = false;
    for (Frame got = target.next(); got.type != -1; got = target.next()) {
      if (got.type == kSettings && (got.flags & kAck) == 0 && self.connections() == 1) {
        self.note("first");
        self.gate.wait();
      }
      if (!told) target.send(frame(kSettings, 0, 0, kOffer));
      told = true;
      if (got.type != kHeaders) continue;
      self.note(target.lines_of(got.payload));
      target.send(
          frame(kHeaders, kEndHeaders | kEndStream, got.stream, block_of({{":status", "200"}})));
    }
  });
  start(backend, kHttp2);
  H2Client client(rig_->port());
  open(client, 1, "/");
  ASSERT_TRUE(backend.wait_for_requests(1));
  client.get(3, "/other");
  EXPECT_TRUE(client.reply(3).head.starts_with(":status: 200\n"));
  EXPECT_EQ(backend.connections(), 2);
  open(client, 5, "/");
  client.send(frame(kReset, 0, 1, big_endian(kCancel, 4)));
  EXPECT_TRUE(client.reply(5).head.starts_with(":status: 200\n"));
  backend.gate.open();
  open(client, 7, "/");
  EXPECT_TRUE(client.reply(7).head.starts_with(":status: 200\n"));
}

TEST_P(WebSocket, WhatComesAheadWaitsForTheSwitch) {
  Backend backend(serve_http1);
  start(backend, kHttp1);
  H2Client client(rig_->port());
  open(client, 1, "/gate");
  client.send(frame(kData, kEndStream, 1, "ahead"));
  ASSERT_TRUE(backend.wait_for_requests(1));
  backend.gate.open();
  EXPECT_EQ(client.reply(1).body, "aheadbye");
  // And no more of it than its window.
  Backend slow(serve_http1);
  apply(slow, kHttp1, [](link::Route&) {});
  open(client, 3, "/gate");
  client.send(frame(kData, 0, 3, std::string(16'384, 'x')));
  for (int i = 0; i < 4; ++i) client.send(frame(kData, 0, 3, std::string(16'384, 'x')));
  EXPECT_EQ(client.reply(3).reset, kFlow);
}

TEST_P(WebSocket, ResetsAreResets) {
  for (const link::TargetProtocol protocol : {kHttp1, kHttp2}) {
    Backend backend(protocol == kHttp1 ? serve_http1 : serve_http2);
    start(backend, protocol);
    H2Client client(rig_->port());
    open(client, 1, "/");
    client.send(frame(kData, 0, 1, "x"));
    while (client.so_far(1).body.empty() && client.take(client.next())) {
    }
    client.send(frame(kReset, 0, 1, big_endian(kCancel, 4)));
    if (protocol == kHttp1) {
      EXPECT_TRUE(Rig::wait_until([&] { return rig_->usage().upstream_connections == 0; }));
      open(client, 3, "/break");
      const Reply reply = client.reply(3);
      EXPECT_EQ(reply.reset, kCancel) << "RFC 8441 section 5";
    } else {
      ASSERT_TRUE(backend.wait_for_requests(2));
      EXPECT_EQ(backend.requests().back(), "reset 8");
    }
  }
}

TEST_P(WebSocket, HasAnIdleTimeAndNoOther) {
  for (const link::TargetProtocol protocol : {kHttp1, kHttp2}) {
    Backend backend(protocol == kHttp1 ? serve_http1 : serve_http2);
    start(backend, protocol);
    apply(backend, protocol, [](link::Route& route) {
      route.request_timeout = Duration(1);
      route.idle_timeout = Duration(0);
    });
    H2Client client(rig_->port());
    // A time-out of a millisecond may come before the switch.
    uint32_t stream = 1;
    for (;; stream += 2) {
      open(client, stream, "/");
      while (client.so_far(stream).head.empty() && client.take(client.next())) {
      }
      if (client.so_far(stream).head.starts_with(":status: 200\n")) break;
      ASSERT_LT(stream, 200u);
    }
    expect_echo(client, stream);
    apply(backend, protocol, [](link::Route& route) { route.idle_timeout = Duration(100); });
    open(client, stream + 2, "/");
    EXPECT_EQ(client.reply(stream + 2).reset, kCancel);
  }
}

INSTANTIATE_TEST_SUITE_P(Io, WebSocket, ::testing::ValuesIn(available_io()), io_test_name);

// While one follows the other: which of them a request goes to is known after its head was read.
TEST_P(WebSocket, VersionsMaySpeakEachItsOwn) {
  Backend first(serve_http1), second(serve_http2);
  rig_.emplace(GetParam(), 1, Times{});
  link::Route route = rig_->route({&first, &second});
  route.targets[0].version = "old";
  route.targets[1].version = "new";
  route.max_concurrency = 1000;
  route.versions = {{.id = "old",
                     .weight = 1,
                     .host_names = {"old.local"},
                     .settings = link::RequestSettings{.protocol = kHttp1}},
                    {.id = "new",
                     .weight = 1,
                     .host_names = {"new.local"},
                     .settings = link::RequestSettings{.protocol = kHttp2}}};
  rig_->apply({route});
  for (int i = 0; i < 20; ++i) {
    Connection client = rig_->connect();
    EXPECT_EQ(open_by_http1(client, "/").status, 101);
    H2Client h2(rig_->port());
    open(h2, 1, "/");
    expect_echo(h2, 1);
  }
  EXPECT_GT(first.connections(), 0);
  EXPECT_GT(second.connections(), 0);
  // Another upgrade than to WebSockets: HTTP/2 has none, and what is asked for is answered without.
  for (const auto& [host, status] : {std::pair("old.local", 101), std::pair("new.local", 200)}) {
    Connection client = rig_->connect();
    client.write(
        fmt::format("GET /upgrade HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\n"
                    "Upgrade: echo\r\n\r\n",
                    host));
    http::ResponseHead head;
    while (http::parse(client.buffer(), head, "GET") == http::Parsed::kMore && client.fill()) {
    }
    EXPECT_EQ(head.code, status) << host;
  }
}

}  // namespace
}  // namespace hob::edge
