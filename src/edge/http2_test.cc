// HTTP/2 as clients see it: those that others wrote, one that sends raw frames, and attackers.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <map>

#include "edge/http2_head.h"
#include "edge/http2_limits.h"
#include "edge/test_rig.h"

namespace hob::edge {
namespace {

enum Type : uint8_t {
  kData,
  kHeaders,
  kPriorityFrame,
  kReset,
  kSettings,
  kPush,
  kPing,
  kGoAway,
  kWindow,
  kContinuation
};
constexpr uint8_t kEndStream = 1;
constexpr uint8_t kAck = 1;
constexpr uint8_t kEndHeaders = 4;
enum Code {
  kNone = 0,
  kProtocol = 1,
  kFlow = 3,
  kClosed = 5,
  kSize = 6,
  kRefused = 7,
  kCancel = 8,
  kCompression = 9,
  kCalm = 11
};

std::string big_endian(uint64_t value, size_t bytes) {
  std::string out(bytes, '\0');
  for (size_t i = bytes; i-- > 0; value >>= 8) out[i] = static_cast<char>(value & 255);
  return out;
}

std::string frame(uint8_t type, uint8_t flags, uint32_t stream, std::string_view payload = "") {
  return big_endian(payload.size(), 3) + static_cast<char>(type) + static_cast<char>(flags) +
         big_endian(stream, 4) + std::string(payload);
}

using Fields = std::vector<std::pair<std::string, std::string>>;
std::string block_of(const Fields& fields) {
  std::string block;
  for (const auto& [name, value] : fields) hpack_field(name, value, block);
  return block;
}
Fields request(const std::string& path, const std::string& method = "GET") {
  return {{":method", method}, {":scheme", "http"}, {":path", path}, {":authority", "test.local"}};
}

struct Frame {
  int type = -1;  // -1: the connection has ended
  uint8_t flags = 0;
  uint32_t stream = 0;
  std::string payload{};
  uint32_t code() const {
    const std::string_view digits =
        type == kGoAway ? std::string_view(payload).substr(4, 4) : payload;
    uint32_t value = 0;
    for (const char c : digits) value = value << 8 | static_cast<uint8_t>(c);
    return value;
  }
};

struct Reply {
  std::string head{};  // lines, interim ones too
  std::string body{};
  std::string trailers{};
  int reset = -1;
  bool ended = false;
};

// A client that sends what it is told.
class H2Client {
 public:
  explicit H2Client(uint16_t port, bool prefaced = true) : connection_(Connection::to(port)) {
    if (prefaced) send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(kSettings, 0, 0));
  }
  bool send(std::string_view bytes) { return connection_.write(bytes); }
  void get(uint32_t stream, const std::string& path) {
    send(frame(kHeaders, kEndHeaders | kEndStream, stream, block_of(request(path))));
  }
  Frame next() {
    const std::string head = connection_.read_exactly(9);
    if (head.size() < 9) return {};
    const auto at = [&](size_t i) { return static_cast<uint32_t>(static_cast<uint8_t>(head[i])); };
    Frame got{.type = head[3],
              .flags = static_cast<uint8_t>(head[4]),
              .stream = at(5) << 24 | at(6) << 16 | at(7) << 8 | at(8)};
    got.payload = connection_.read_exactly(at(0) << 16 | at(1) << 8 | at(2));
    return got;
  }
  // The first of that type, others skipped; type -1: the connection ended before.
  Frame next(Type type) {
    for (;;) {
      Frame got = next();
      if (got.type == type || got.type == -1) return got;
    }
  }
  // Until the stream's answer has ended or been reset.
  Reply reply(uint32_t stream) {
    while (!replies_[stream].ended && replies_[stream].reset < 0) {
      if (!take(next())) break;
    }
    return replies_[stream];
  }
  bool take(const Frame& got) {
    Reply& reply = replies_[got.stream];
    switch (got.type) {
      case -1:
        return false;
      case kHeaders: {
        EXPECT_NE(got.flags & kEndHeaders, 0);
        std::string lines;
        std::string_view block = got.payload;
        HpackField field;
        decoder_.begin();
        while (decoder_.next(block, field) == HpackDecoder::Outcome::kField)
          lines.append(field.name).append(": ").append(field.value).append("\n");
        (lines.starts_with(":status") ? reply.head : reply.trailers) += lines;
        break;
      }
      case kData:
        reply.body += got.payload;
        break;
      case kReset:
        reply.reset = static_cast<int>(got.code());
        break;
      default:
        return true;
    }
    if (got.type != kReset && (got.flags & kEndStream) != 0) reply.ended = true;
    return true;
  }
  Reply ask(uint32_t stream, const std::string& path) {
    get(stream, path);
    return reply(stream);
  }
  Connection& connection() { return connection_; }

 private:
  Connection connection_;
  HpackDecoder decoder_;
  std::map<uint32_t, Reply> replies_;
};

std::string output_of(const std::string& command) {
  FILE* pipe = ::popen((command + " 2>&1").c_str(), "r");
  EXPECT_NE(pipe, nullptr);
  std::string text;
  char room[4096];
  for (size_t got = 0; (got = ::fread(room, 1, sizeof room, pipe)) > 0;) text.append(room, got);
  ::pclose(pipe);
  return text;
}

class Http2 : public ::testing::TestWithParam<Io> {
 protected:
  void SetUp() override { start({}); }
  void start(Times times) {
    rig_.emplace(GetParam(), 1, times);
    rig_->apply({rig_->route({&backend_})});
  }
  // Whoever was attacked serves on.
  void expect_well() { EXPECT_EQ(rig_->get("/hello").body, "hello"); }

  Backend backend_;
  std::optional<Rig> rig_;
};

// ---- what it carries ----

TEST_P(Http2, AnswersOfAllKinds) {
  H2Client client(rig_->port());
  Reply reply = client.ask(1, "/hello");
  EXPECT_TRUE(reply.head.starts_with(":status: 200\n")) << reply.head;
  EXPECT_EQ(reply.body, "hello");
  reply = client.ask(3, "/chunked");
  EXPECT_EQ(reply.body, "hello world");
  EXPECT_EQ(reply.trailers, "x-sum: 11\n") << "framing fields are no trailers";
  EXPECT_EQ(reply.head.find("transfer-encoding"), std::string::npos);
  reply = client.ask(5, "/close");
  EXPECT_EQ(reply.body, "until the end");
  reply = client.ask(7, "/204");
  EXPECT_EQ(reply.head, ":status: 204\n");
  reply = client.ask(9, "/304");
  EXPECT_TRUE(reply.ended && reply.head.find("etag: \"a\"") != std::string::npos) << reply.head;
  reply = client.ask(11, "/hop");
  EXPECT_EQ(reply.head.find("x-hop"), std::string::npos);
  EXPECT_EQ(reply.head.find("connection"), std::string::npos);
  EXPECT_NE(reply.head.find("x-keep: 1"), std::string::npos);
  reply = client.ask(13, "/continue");
  EXPECT_TRUE(reply.head.starts_with(":status: 100\n:status: 103\nlink: </a>\n:status: 200\n"))
      << reply.head;
  reply = client.ask(15, "/die");
  EXPECT_EQ(reply.reset, 2) << "a body cut short is no answer";
  reply = client.ask(17, "/garbage");
  EXPECT_TRUE(reply.ended && reply.head.starts_with(":status: 502\n"))
      << reply.head << " reset " << reply.reset;
  client.send(frame(kHeaders, kEndHeaders | kEndStream, 19, block_of(request("/head", "HEAD"))));
  reply = client.reply(19);
  EXPECT_TRUE(reply.ended && reply.body.empty()) << reply.head << " reset " << reply.reset;
  EXPECT_NE(reply.head.find("content-length: 5"), std::string::npos);
  EXPECT_EQ(client.ask(21, "/hello").body, "hello");
}

TEST_P(Http2, RequestsReachTheTargetAsOneOfHttp1) {
  H2Client client(rig_->port());
  Fields fields = request("/echo?q=1", "POST");
  fields.insert(fields.end(), {{"cookie", "a=1"},
                               {"x-own", "v"},
                               {"cookie", "b=2"},
                               {"te", "trailers"},
                               {"x-forwarded-for", "6.6.6.6"}});
  client.send(frame(kHeaders, kEndHeaders, 1, block_of(fields)));
  client.send(frame(kData, 0, 1, "part one, "));
  client.send(frame(kData, 8, 1, std::string("\x04") + "part two" + std::string(4, '\0')));
  client.send(frame(kHeaders, kEndHeaders | kEndStream, 1, block_of({{"x-sum", "18"}})));
  const Reply reply = client.reply(1);
  EXPECT_TRUE(reply.body.starts_with("POST /echo?q=1 HTTP/1.1\r\nhost: test.local\r\n"))
      << reply.body;
  EXPECT_TRUE(reply.body.ends_with("\r\n\r\npart one, part two"));
  for (const char* wanted : {"\r\ncookie: a=1; b=2\r\n", "\r\nx-own: v\r\n", "\r\nTE: trailers\r\n",
                             "\r\nX-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\n",
                             "\r\nTransfer-Encoding: chunked\r\n"}) {
    EXPECT_NE(reply.body.find(wanted), std::string::npos) << wanted;
  }
  EXPECT_EQ(reply.body.find("6.6.6.6"), std::string::npos);
  fields = request("/length", "PUT");
  fields.push_back({"content-length", "5"});
  client.send(frame(kHeaders, kEndHeaders, 3, block_of(fields)) + frame(kData, 1, 3, "12345"));
  EXPECT_EQ(client.reply(3).body, "5");
  EXPECT_EQ(backend_.requests().back().find("chunked"), std::string::npos);
}

TEST_P(Http2, PagesOfItsOwn) {
  H2Client client(rig_->port());
  Fields fields = request("/hello");
  fields[3].second = "nowhere.local";
  client.send(frame(kHeaders, 5, 1, block_of(fields)));
  Reply reply = client.reply(1);
  EXPECT_TRUE(reply.head.starts_with(":status: 404\n"));
  EXPECT_NE(reply.body.find("nowhere.local"), std::string::npos);
  fields = request("/" + std::string(16'500, 'x'));
  const std::string block = block_of(fields);
  client.send(frame(kHeaders, 1, 3, block.substr(0, 16'000)));
  client.send(frame(kContinuation, 4, 3, block.substr(16'000)));
  EXPECT_TRUE(client.reply(3).head.starts_with(":status: 414\n"));
  fields = request("/hello");
  for (int i = 0; i < 130; ++i) fields.push_back({fmt::format("x-{}", i), "1"});
  client.send(frame(kHeaders, 5, 5, block_of(fields)));
  EXPECT_TRUE(client.reply(5).head.starts_with(":status: 431\n"));
  client.send(frame(kHeaders, kEndHeaders, 7,
                    block_of({{":method", "CONNECT"}, {":authority", "test.local:80"}})));
  EXPECT_TRUE(client.reply(7).head.starts_with(":status: 405\n"));
  EXPECT_EQ(client.ask(9, "/hello").body, "hello");
}

TEST_P(Http2, ManyStreamsAtOnce) {
  H2Client client(rig_->port());
  std::string all;
  for (uint32_t i = 0; i < 100; ++i) {
    all += frame(kHeaders, 5, 2 * i + 1, block_of(request("/big?" + std::to_string(100 * i + 1))));
  }
  client.send(all + frame(kWindow, 0, 0, big_endian(1 << 24, 4)));
  for (uint32_t i = 0; i < 100; ++i) EXPECT_EQ(client.reply(2 * i + 1).body.size(), 100 * i + 1);
}

TEST_P(Http2, ByteByByteIsTheSame) {
  H2Client client(rig_->port(), false);
  const std::string all = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(kSettings, 0, 0) +
                          frame(kHeaders, kEndHeaders, 1, block_of(request("/length", "POST"))) +
                          frame(kData, 8, 1, std::string("\x02") + "abc" + std::string(2, '\0')) +
                          frame(kData, 1, 1, "de");
  for (const char c : all) client.send({&c, 1});
  EXPECT_EQ(client.reply(1).body, "5");
}

// ---- flow control ----

TEST_P(Http2, SendsNoMoreThanTheClientTakes) {
  H2Client client(rig_->port());
  client.send(frame(kSettings, 0, 0, big_endian(4, 2) + big_endian(10, 4)));
  client.get(1, "/big?30000000");
  Frame got = client.next(kData);
  EXPECT_EQ(got.payload.size(), 10u);
  client.send(frame(kPing, 0, 0, "nothing!"));
  while (got.type != kPing) {
    got = client.next();
    EXPECT_NE(got.type, kData) << "beyond the window";
  }
  client.send(frame(kWindow, 0, 1, big_endian(1000, 4)));
  EXPECT_EQ(client.next(kData).payload.size(), 1000u);
  client.send(frame(kSettings, 0, 0, big_endian(4, 2) + big_endian(20, 4)));
  EXPECT_EQ(client.next(kData).payload.size(), 10u) << "what the settings add";
  // The target is held back meanwhile.
  EXPECT_LT(rig_->usage().queued_peak_bytes, 4 * kQueuedBytesHigh);
  client.send(frame(kWindow, 0, 1, big_endian(1 << 30, 4)) +
              frame(kWindow, 0, 0, big_endian(1 << 30, 4)));
  EXPECT_EQ(client.reply(1).body.size(), 30'000'000u - 1'020u);
  EXPECT_LT(rig_->usage().queued_peak_bytes, 4 * kQueuedBytesHigh);
}

TEST_P(Http2, TakesMuchAndGivesWindowsBack) {
  H2Client client(rig_->port());
  client.send(frame(kHeaders, kEndHeaders, 1, block_of(request("/length", "POST"))));
  constexpr size_t kBytes = 4'000'000;
  int64_t stream_window = kHttp2DefaultWindow;
  int64_t window = kHttp2DefaultWindow;
  size_t sent = 0;
  while (sent < kBytes) {
    const size_t count = std::min<size_t>(16'384, kBytes - sent);
    while (window < static_cast<int64_t>(count) || stream_window < static_cast<int64_t>(count)) {
      const Frame got = client.next(kWindow);
      ASSERT_EQ(got.type, kWindow);
      (got.stream == 0 ? window : stream_window) += got.code();
    }
    sent += count;
    window -= static_cast<int64_t>(count);
    stream_window -= static_cast<int64_t>(count);
    ASSERT_TRUE(
        client.send(frame(kData, sent == kBytes ? kEndStream : 0, 1, std::string(count, 'u'))));
  }
  EXPECT_EQ(client.reply(1).body, std::to_string(kBytes));
}

TEST_P(Http2, ATargetThatDoesNotReadHoldsItsClientBack) {
  Backend deaf([](Connection& connection, Backend& backend) {
    backend.note(connection.read_head());
    backend.gate.wait();
  });
  rig_->apply({rig_->route({&deaf})});
  H2Client client(rig_->port());
  client.send(frame(kHeaders, kEndHeaders, 1, block_of(request("/", "POST"))));
  ASSERT_TRUE(deaf.wait_for_requests(1));
  // What the edge gives back beyond the first window is bounded by what kernels and queues hold.
  int64_t window = kHttp2DefaultWindow;
  size_t sent = 0;
  client.connection().shrink_patience();
  for (;;) {
    if (window >= 16'384) {
      client.send(frame(kData, 0, 1, std::string(16'384, 'u')));
      window -= 16'384;
      sent += 16'384;
      ASSERT_LT(sent, 64u * 1024 * 1024);
      continue;
    }
    const Frame got = client.next(kWindow);
    if (got.type == -1) break;  // none came: it waits
    if (got.stream == 1) window += got.code();
  }
  EXPECT_LT(rig_->usage().buffers * kBufferBytes, 8u * 1024 * 1024);
  deaf.gate.open();
}

// ---- ends ----

TEST_P(Http2, AResetEndsTheTargetsWork) {
  H2Client client(rig_->port());
  client.get(1, "/wait");
  client.get(3, "/hello");
  EXPECT_EQ(client.reply(3).body, "hello");
  ASSERT_TRUE(backend_.wait_for_requests(2));
  client.send(frame(kReset, 0, 1, big_endian(kCancel, 4)));
  EXPECT_TRUE(Rig::wait_until([&] { return rig_->usage().upstream_connections == 1; }));
  EXPECT_EQ(client.ask(5, "/hello").body, "hello");
  client.get(7, "/wait");
  ASSERT_TRUE(backend_.wait_for_requests(4));
  client.connection().reset();
  // The connection that was kept alive was the last one's.
  EXPECT_TRUE(Rig::wait_until([&] { return rig_->usage().upstream_connections == 0; }));
  EXPECT_TRUE(Rig::wait_until([&] { return rig_->usage().connections == 0; }));
}

TEST_P(Http2, AnAnswerBeforeTheEndOfTheRequest) {
  H2Client client(rig_->port());
  client.send(frame(kHeaders, kEndHeaders, 1, block_of(request("/early", "POST"))));
  EXPECT_EQ(client.reply(1).body, "early");
  const Frame got = client.next(kReset);
  EXPECT_EQ(got.code(), static_cast<uint32_t>(kNone));
  // What was on its way is dropped; the connection is well.
  client.send(frame(kData, 0, 1, "late") + frame(kData, 1, 1, "later"));
  EXPECT_EQ(client.ask(3, "/hello").body, "hello");
}

TEST_P(Http2, DrainsWithoutLoss) {
  start({.drain = 60'000});
  H2Client client(rig_->port());
  client.get(1, "/wait");
  ASSERT_TRUE(backend_.wait_for_requests(1));
  std::thread stopping([&] { rig_->stop(Duration(60'000)); });
  Frame got = client.next(kGoAway);
  EXPECT_EQ(got.payload.substr(0, 4), big_endian(0x7fffffff, 4));
  // Sent before the client could know.
  client.get(3, "/hello");
  got = client.next(kPing);
  EXPECT_EQ(client.reply(3).body, "hello");
  client.send(frame(kPing, kAck, 0, got.payload));
  got = client.next(kGoAway);
  EXPECT_EQ(got.payload.substr(0, 4), big_endian(3, 4));
  backend_.gate.open();
  EXPECT_EQ(client.reply(1).body, "waited");
  EXPECT_EQ(client.next().type, -1);
  client.connection().close();
  stopping.join();
}

// Its session is full of answers that others do not take: it goes on when those are reset.
TEST_P(Http2, AStreamPausedForOthersGoesOnWhenTheyAreReset) {
  H2Client client(rig_->port());
  client.send(frame(kSettings, 0, 0, big_endian(4, 2) + big_endian(0, 4)) +
              frame(kWindow, 0, 0, big_endian(1 << 30, 4)));
  constexpr uint32_t kStalled = 24;  // of 64 KiB and more each: over kHttp2QueuedBytesMax
  uint32_t id = 1;
  for (; id < 2 * kStalled; id += 2) client.get(id, "/big?1000000");
  EXPECT_TRUE(Rig::wait_until([&] { return rig_->usage().buffers >= 60; }));
  client.get(id, "/big?1000000");
  client.send(frame(kWindow, 0, id, big_endian(1 << 30, 4)));
  for (uint32_t stalled = 1; stalled < 2 * kStalled; stalled += 2)
    client.send(frame(kReset, 0, stalled, big_endian(8, 4)));
  const Reply reply = client.reply(id);
  EXPECT_EQ(reply.body.size(), 1'000'000u) << reply.head;
}

TEST_P(Http2, WhatIsWrongIsNamed) {
  const std::string get = block_of(request("/hello"));
  const std::string wait = frame(kHeaders, kEndHeaders, 1, block_of(request("/length", "POST")));
  Fields with_length = request("/length", "POST");
  with_length.push_back({"content-length", "5"});
  const std::string post5 = frame(kHeaders, kEndHeaders, 1, block_of(with_length));
  with_length.back().second = "0";
  const std::string post0 = frame(kHeaders, kEndHeaders, 1, block_of(with_length));
  Fields get_with_length = request("/hello");
  get_with_length.push_back({"content-length", "00"});
  const std::string get0 = frame(kHeaders, kEndHeaders, 1, block_of(get_with_length));
  struct Case {
    const char* name;
    std::string bytes;
    Type answer;  // kGoAway: of the connection; kReset: of the stream
    Code code;
  };
  for (const Case& c : {
           Case{"DATA beyond a length of 0",
                post0 + frame(kData, 1, 1, "GET /smuggled HTTP/1.1\r\nHost: x\r\nX: "), kReset,
                kProtocol},
           Case{"DATA of a GET whose length is 0", get0 + frame(kData, 1, 1, "GET"), kReset,
                kProtocol},
           Case{"a frame too large", frame(kPing, 0, 0, std::string(16'385, 'x')), kGoAway, kSize},
           Case{"DATA without a stream", frame(kData, 0, 0, "x"), kGoAway, kProtocol},
           Case{"DATA of an idle stream", frame(kData, 0, 5, "x"), kGoAway, kProtocol},
           Case{"a stream of ours", frame(kHeaders, 5, 2, get), kGoAway, kProtocol},
           Case{"HEADERS without a stream", frame(kHeaders, 5, 0, get), kGoAway, kProtocol},
           Case{"padding beyond the frame", frame(kHeaders, 13, 1, "\xff"), kGoAway, kProtocol},
           Case{"padding beyond the data", wait + frame(kData, 8, 1, "\x05xx"), kGoAway, kProtocol},
           Case{"a block that is none", frame(kHeaders, 5, 1, "\x80"), kGoAway, kCompression},
           Case{"a block interrupted", frame(kHeaders, 0, 1, get) + frame(kPing, 0, 0, "12345678"),
                kGoAway, kProtocol},
           Case{"a block of two streams",
                frame(kHeaders, 0, 1, get) + frame(kContinuation, 4, 3, ""), kGoAway, kProtocol},
           Case{"CONTINUATION of nothing", frame(kContinuation, 4, 1, ""), kGoAway, kProtocol},
           Case{"PUSH_PROMISE", frame(kPush, 4, 1, "0000"), kGoAway, kProtocol},
           Case{"a short PING", frame(kPing, 0, 0, "1234567"), kGoAway, kSize},
           Case{"PING on a stream", frame(kPing, 0, 1, "12345678"), kGoAway, kProtocol},
           Case{"half a setting", frame(kSettings, 0, 0, "12345"), kGoAway, kSize},
           Case{"SETTINGS on a stream", frame(kSettings, 0, 1), kGoAway, kProtocol},
           Case{"an ACK that says more", frame(kSettings, 1, 0, "123456"), kGoAway, kSize},
           Case{"a window beyond all", frame(kSettings, 0, 0, big_endian(0x4ffffffff, 6)), kGoAway,
                kFlow},
           Case{"frames too small", frame(kSettings, 0, 0, big_endian(0x500000100, 6)), kGoAway,
                kProtocol},
           Case{"push that is neither", frame(kSettings, 0, 0, big_endian(0x200000002, 6)), kGoAway,
                kProtocol},
           Case{"a window of nothing", frame(kWindow, 0, 0, big_endian(0, 4)), kGoAway, kProtocol},
           Case{"the connection's window too wide", frame(kWindow, 0, 0, big_endian(0x7fffffff, 4)),
                kGoAway, kFlow},
           Case{"a short WINDOW_UPDATE", frame(kWindow, 0, 0, "123"), kGoAway, kSize},
           Case{"WINDOW_UPDATE of an idle stream", frame(kWindow, 0, 7, big_endian(1, 4)), kGoAway,
                kProtocol},
           Case{"RST_STREAM of an idle stream", frame(kReset, 0, 7, big_endian(8, 4)), kGoAway,
                kProtocol},
           Case{"a short RST_STREAM", wait + frame(kReset, 0, 1, "123"), kGoAway, kSize},
           Case{"a short PRIORITY", frame(kPriorityFrame, 0, 1, "1234"), kGoAway, kSize},
           Case{"GOAWAY on a stream", frame(kGoAway, 0, 1, "12345678"), kGoAway, kProtocol},
           Case{"malformed", frame(kHeaders, 5, 1, block_of({{":method", "GET"}})), kReset,
                kProtocol},
           Case{"a stream's window of nothing", wait + frame(kWindow, 0, 1, big_endian(0, 4)),
                kReset, kProtocol},
           Case{"a stream's window too wide",
                wait + frame(kWindow, 0, 1, big_endian(0x7fffffff, 4)), kReset, kFlow},
           Case{"more than its length", post5 + frame(kData, 0, 1, "123456"), kReset, kProtocol},
           Case{"less than its length", post5 + frame(kData, 1, 1, "1234"), kReset, kProtocol},
           Case{"trailers that do not end it", wait + frame(kHeaders, kEndHeaders, 1, ""), kReset,
                kProtocol},
           Case{"trailers with a pseudo field",
                wait + frame(kHeaders, 5, 1, block_of({{":path", "/"}})), kReset, kProtocol},
           Case{"a stream opened anew",
                frame(kHeaders, 5, 1, block_of(request("/nowhere", "CONNECT"))) +
                    frame(kHeaders, 5, 5, block_of(request("/wait"))) + frame(kHeaders, 5, 3, get),
                kGoAway, kProtocol},
           Case{"DATA after the end",
                frame(kHeaders, 5, 1, block_of(request("/wait"))) + frame(kData, 0, 1, "x"), kReset,
                kClosed},
       }) {
    H2Client client(rig_->port());
    client.send(c.bytes);
    const Frame got = client.next(c.answer);
    EXPECT_EQ(got.type, c.answer) << c.name;
    EXPECT_EQ(got.code(), static_cast<uint32_t>(c.code)) << c.name;
    if (c.answer == kGoAway) {
      client.connection().shut();
      while (client.next().type != -1) {
      }
    } else {
      EXPECT_EQ(client.ask(9, "/hello").body, "hello") << c.name;
    }
  }
  H2Client unknown(rig_->port());
  unknown.send(frame(0xbe, 0xff, 77, "whatever"));
  EXPECT_EQ(unknown.ask(1, "/hello").body, "hello") << "kinds that are not known are skipped";
}

TEST_P(Http2, WhatIsNotHttp2IsNotTakenForIt) {
  for (const char* bytes : {"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", "PRI * HTTP/2.1\r\n\r\n"}) {
    Connection client = rig_->connect();
    client.write(bytes);
    EXPECT_TRUE(client.read_head().starts_with("HTTP/1.1 ")) << bytes;
  }
  // Not after a request of HTTP/1.
  Connection late = rig_->connect();
  late.write("GET /hello HTTP/1.1\r\nHost: test.local\r\n\r\n");
  EXPECT_EQ(read_answer(late).body, "hello");
  late.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
  EXPECT_GE(read_answer(late).status, 400);
  // A first frame that is no SETTINGS.
  H2Client hasty(rig_->port(), false);
  hasty.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(kPing, 0, 0, "12345678"));
  EXPECT_EQ(hasty.next(kGoAway).code(), static_cast<uint32_t>(kProtocol));
}

// ---- attacks ----

// Sends until the edge has had enough; the error it names.
uint32_t attack(H2Client& client, size_t times, const std::function<std::string(uint32_t)>& bytes) {
  bool sending = true;
  for (uint32_t i = 0; i < times && sending; ++i) sending = client.send(bytes(i));
  const Frame got = client.next(kGoAway);
  EXPECT_EQ(got.type, kGoAway);
  return got.type == kGoAway ? got.code() : 0;
}

TEST_P(Http2, FloodsOfCheapFrames) {
  struct Case {
    const char* name;
    std::function<std::string(uint32_t)> bytes;
  };
  const std::string post = block_of(request("/length", "POST"));
  for (const Case& c : {
           Case{"PING", [](uint32_t) { return frame(kPing, 0, 0, "12345678"); }},
           Case{"PING answers", [](uint32_t) { return frame(kPing, kAck, 0, "12345678"); }},
           Case{"SETTINGS", [](uint32_t) { return frame(kSettings, 0, 0); }},
           Case{"SETTINGS answers", [](uint32_t) { return frame(kSettings, kAck, 0); }},
           Case{"PRIORITY", [](uint32_t) { return frame(kPriorityFrame, 0, 1, "12345"); }},
           Case{"unknown", [](uint32_t) { return frame(0xee, 0, 0, "x"); }},
           Case{"WINDOW_UPDATE", [](uint32_t) { return frame(kWindow, 0, 0, big_endian(1, 4)); }},
           Case{"empty DATA",
                [&](uint32_t i) {
                  return i == 0 ? frame(kHeaders, kEndHeaders, 1, post) : frame(kData, 0, 1);
                }},
           Case{"RST_STREAM of what is gone",
                [&](uint32_t i) {
                  return i == 0 ? frame(kHeaders, kEndHeaders, 1, post)
                                : frame(kReset, 0, 1, big_endian(8, 4));
                }},
       }) {
    H2Client client(rig_->port());
    EXPECT_EQ(attack(client, 2 * kHttp2Budget, c.bytes), static_cast<uint32_t>(kCalm)) << c.name;
    expect_well();
  }
}

TEST_P(Http2, RapidReset) {  // CVE-2023-44487
  H2Client client(rig_->port());
  const std::string block = block_of(request("/wait"));
  const uint32_t code = attack(client, kHttp2ResetsMax + 50, [&](uint32_t i) {
    return frame(kHeaders, 5, 2 * i + 1, block) + frame(kReset, 0, 2 * i + 1, big_endian(8, 4));
  });
  EXPECT_EQ(code, static_cast<uint32_t>(kCalm));
  EXPECT_TRUE(Rig::wait_until([&] { return rig_->usage().upstream_connections == 0; }));
  expect_well();
}

TEST_P(Http2, MadeYouReset) {  // CVE-2025-8671
  for (const auto& [name, trick] :
       {std::pair<const char*, std::function<std::string(uint32_t)>>{
            "a window of nothing",
            [](uint32_t id) { return frame(kWindow, 0, id, big_endian(0, 4)); }},
        {"DATA after the end", [](uint32_t id) { return frame(kData, 0, id, "x"); }},
        {"a window too wide",
         [](uint32_t id) { return frame(kWindow, 0, id, big_endian(0x7fffffff, 4)); }}}) {
    H2Client client(rig_->port());
    const std::string block = block_of(request("/wait"));
    const uint32_t code = attack(client, kHttp2ResetsMax + 50, [&](uint32_t i) {
      return frame(kHeaders, 5, 2 * i + 1, block) + trick(2 * i + 1);
    });
    EXPECT_EQ(code, static_cast<uint32_t>(kCalm)) << name;
    EXPECT_TRUE(Rig::wait_until([&] { return rig_->usage().upstream_connections == 0; }));
  }
  H2Client client(rig_->port());
  const std::string malformed = block_of({{":method", "GET"}});
  EXPECT_EQ(attack(client, kHttp2ResetsMax + 50,
                   [&](uint32_t i) { return frame(kHeaders, 5, 2 * i + 1, malformed); }),
            static_cast<uint32_t>(kCalm));
  expect_well();
}

TEST_P(Http2, ContinuationFlood) {  // CVE-2024-27316
  const std::string block = block_of(request("/hello"));
  {
    H2Client client(rig_->port());
    EXPECT_EQ(attack(client, kHttp2ContinuationsMax + 2,
                     [&](uint32_t i) {
                       return i == 0 ? frame(kHeaders, 1, 1, block)
                                     : frame(kContinuation, 0, 1, "");
                     }),
              static_cast<uint32_t>(kCalm));
  }
  {
    H2Client client(rig_->port());
    EXPECT_EQ(attack(client, 6,
                     [&](uint32_t i) {
                       return frame(i == 0 ? kHeaders : kContinuation, 0, 1,
                                    std::string(16'384, '\x82'));
                     }),
              static_cast<uint32_t>(kCalm));
  }
  // As many as may be are well.
  H2Client client(rig_->port());
  client.send(frame(kHeaders, 1, 1, block.substr(0, 1)));
  for (int i = 1; i < kHttp2ContinuationsMax; ++i)
    client.send(frame(kContinuation, 0, 1, block.substr(static_cast<size_t>(i), 1)));
  client.send(frame(kContinuation, 4, 1, block.substr(kHttp2ContinuationsMax)));
  EXPECT_EQ(client.reply(1).body, "hello");
}

TEST_P(Http2, HpackBomb) {
  H2Client client(rig_->port());
  std::string block = block_of(request("/hello"));
  block += std::string("\x40\x01x\x7f\xa1\x1e") + std::string(4000, 'x');
  block += std::string(10'000, '\xbe');
  client.send(frame(kHeaders, 5, 1, block));
  EXPECT_EQ(client.next(kGoAway).code(), static_cast<uint32_t>(kCalm));
  expect_well();
}

TEST_P(Http2, TooManyStreams) {
  H2Client client(rig_->port());
  std::string all;
  for (uint32_t i = 0; i <= kHttp2StreamsMax; ++i)
    all += frame(kHeaders, 5, 2 * i + 1, block_of(request("/wait")));
  client.send(all);
  const Frame got = client.next(kReset);
  EXPECT_EQ(got.stream, 2 * kHttp2StreamsMax + 1);
  EXPECT_EQ(got.code(), static_cast<uint32_t>(kRefused));
  backend_.gate.open();
  EXPECT_EQ(client.reply(1).body, "waited");
}

TEST_P(Http2, WindowsMayNotBeOverrun) {
  // Nobody takes the body: the request waits for a target.
  rig_->apply({rig_->route({})});
  H2Client client(rig_->port());
  client.send(frame(kHeaders, kEndHeaders, 1, block_of(request("/", "POST"))));
  for (int i = 0; i < 100; ++i) client.send(frame(kData, 0, 1, std::string(16'384, 'x')));
  EXPECT_EQ(client.next(kReset).code(), static_cast<uint32_t>(kFlow));
  client.send(frame(kPing, 0, 0, "are you?"));
  EXPECT_EQ(client.next(kPing).payload, "are you?");
}

TEST_P(Http2, AClientThatTakesNothingIsReset) {
  start({.stall = 100});
  H2Client client(rig_->port());
  client.send(frame(kSettings, 0, 0, big_endian(4, 2) + big_endian(0, 4)));
  client.get(1, "/big?1000000");
  EXPECT_EQ(client.next(kReset).code(), static_cast<uint32_t>(kCancel));
  EXPECT_TRUE(Rig::wait_until([&] { return rig_->usage().upstream_connections == 0; }));
}

TEST_P(Http2, SlownessHasItsEnd) {
  start({.header = 100});
  {
    H2Client client(rig_->port());
    client.send(frame(kHeaders, 1, 1, block_of(request("/hello"))));
    EXPECT_EQ(client.next(kGoAway).code(), static_cast<uint32_t>(kCalm)) << "half a block";
  }
  {
    H2Client client(rig_->port(), false);
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    EXPECT_EQ(client.next(kGoAway).code(), static_cast<uint32_t>(kCalm)) << "no settings";
  }
  start({.keep_alive_client = 100});
  H2Client client(rig_->port());
  EXPECT_EQ(client.next(kGoAway).code(), static_cast<uint32_t>(kNone)) << "idle";
}

// ---- clients that others wrote ----

TEST_P(Http2, CurlNghttpAndH2load) {
  const std::string url = fmt::format("http://test.local:{}", rig_->port());
  const std::string curl = fmt::format(
      "curl -sS --max-time 60 --http2-prior-knowledge --resolve test.local:{}:127.0.0.1 ",
      rig_->port());
  EXPECT_EQ(output_of(curl + "-w ' %{http_version}' " + url + "/hello"), "hello 2");
  EXPECT_EQ(output_of(curl + url + "/chunked"), "hello world");
  EXPECT_EQ(output_of(curl + url + "/big?300000").size(), 300'000u);
  EXPECT_EQ(output_of("head -c 2000000 /dev/zero | " + curl + "-T - " + url + "/length"),
            "2000000");
  // Takes no more than it is given time for, and asks for all of a page's parts at once.
  const std::string nghttp = output_of(fmt::format(
      "timeout 60 nghttp -n -v -H ':authority: test.local' -d /etc/hostname --trailer 'x-sum: 1' "
      "http://127.0.0.1:{0}/length http://127.0.0.1:{0}/hello",
      rig_->port()));
  EXPECT_NE(nghttp.find(":status: 200"), std::string::npos) << nghttp;
  EXPECT_EQ(nghttp.find("PROTOCOL_ERROR"), std::string::npos) << nghttp;
  const std::string h2load =
      output_of(fmt::format("timeout 120 h2load -n 3000 -c 4 -m 100 -H ':authority: test.local' "
                            "http://127.0.0.1:{}/hello",
                            rig_->port()));
  EXPECT_NE(h2load.find("3000 succeeded, 0 failed"), std::string::npos) << h2load;
}

INSTANTIATE_TEST_SUITE_P(Io, Http2, ::testing::ValuesIn(available_io()), io_test_name);

}  // namespace
}  // namespace hob::edge
