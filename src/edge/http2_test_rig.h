// For tests of HTTP/2: frames written by hand, a client and a target that send them, an edge
// between them.
#pragma once

#include <gtest/gtest.h>

#include <cstdio>
#include <map>

#include "edge/hpack.h"
#include "edge/test_rig.h"

namespace hob::edge {

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
inline constexpr uint8_t kEndStream = 1;
inline constexpr uint8_t kAck = 1;
inline constexpr uint8_t kEndHeaders = 4;
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

inline std::string big_endian(uint64_t value, size_t bytes) {
  std::string out(bytes, '\0');
  for (size_t i = bytes; i-- > 0; value >>= 8) out[i] = static_cast<char>(value & 255);
  return out;
}

inline std::string frame(uint8_t type, uint8_t flags, uint32_t stream,
                         std::string_view payload = "") {
  return big_endian(payload.size(), 3) + static_cast<char>(type) + static_cast<char>(flags) +
         big_endian(stream, 4) + std::string(payload);
}

inline const std::string kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

using Fields = std::vector<std::pair<std::string, std::string>>;
inline std::string block_of(const Fields& fields) {
  std::string block;
  for (const auto& [name, value] : fields) hpack_field(name, value, block);
  return block;
}
inline Fields request(const std::string& path, const std::string& method = "GET") {
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

// One end of a connection, that sends what it is told.
class H2Peer {
 public:
  explicit H2Peer(Connection& connection) : connection_(&connection) {}
  explicit H2Peer(Connection&& connection)
      : own_(std::move(connection)), connection_(&own_.value()) {}
  H2Peer(const H2Peer&) = delete;
  bool send(std::string_view bytes) { return connection_->write(bytes); }
  Frame next() {
    const std::string head = connection_->read_exactly(9);
    if (head.size() < 9) return {};
    const auto at = [&](size_t i) { return static_cast<uint32_t>(static_cast<uint8_t>(head[i])); };
    Frame got{.type = head[3],
              .flags = static_cast<uint8_t>(head[4]),
              .stream = at(5) << 24 | at(6) << 16 | at(7) << 8 | at(8)};
    got.payload = connection_->read_exactly(at(0) << 16 | at(1) << 8 | at(2));
    return got;
  }
  // The first of that type, others skipped; type -1: the connection ended before.
  Frame next(Type type) {
    for (;;) {
      Frame got = next();
      if (got.type == type || got.type == -1) return got;
    }
  }
  // Lines "name: value\n".
  std::string lines_of(std::string_view block) {
    std::string lines;
    HpackField field;
    decoder_.begin();
    while (decoder_.next(block, field) == HpackDecoder::Outcome::kField)
      lines.append(field.name).append(": ").append(field.value).append("\n");
    return lines;
  }
  Connection& connection() { return *connection_; }

 private:
  std::optional<Connection> own_;
  Connection* connection_;
  HpackDecoder decoder_;
};

class H2Client : public H2Peer {
 public:
  explicit H2Client(uint16_t port, bool prefaced = true) : H2Peer(Connection::to(port)) {
    if (prefaced) send(kPreface + frame(kSettings, 0, 0));
  }
  void get(uint32_t stream, const std::string& path) {
    send(frame(kHeaders, kEndHeaders | kEndStream, stream, block_of(request(path))));
  }
  // Until the stream's answer has ended or been reset.
  Reply reply(uint32_t stream) {
    while (!replies_[stream].ended && replies_[stream].reset < 0) {
      if (!take(next())) break;
    }
    return replies_[stream];
  }
  // What has come so far.
  const Reply& so_far(uint32_t stream) { return replies_[stream]; }
  bool take(const Frame& got) {
    Reply& reply = replies_[got.stream];
    switch (got.type) {
      case -1:
        return false;
      case kHeaders: {
        EXPECT_NE(got.flags & kEndHeaders, 0);
        const std::string lines = lines_of(got.payload);
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

 private:
  std::map<uint32_t, Reply> replies_;
};

// A target's end: the preface has been read, its settings are sent.
class H2Target : public H2Peer {
 public:
  explicit H2Target(Connection& connection, const std::string& settings = {}) : H2Peer(connection) {
    EXPECT_TRUE(kPreface.starts_with(connection.read_exactly(kPreface.size())));
    send(frame(kSettings, 0, 0, settings));
  }
  // The next request's stream and its fields, as lines; 0: the connection ended before.
  std::pair<uint32_t, std::string> next_request() {
    const Frame got = next(kHeaders);
    if (got.type == -1) return {};
    return {got.stream, lines_of(got.payload)};
  }
  void answer(uint32_t stream, const Fields& fields, bool last) {
    send(frame(kHeaders, last ? kEndHeaders | kEndStream : kEndHeaders, stream, block_of(fields)));
  }
};

inline std::string output_of(const std::string& command) {
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

// Sends until the edge has had enough; the error it names.
inline uint32_t attack(H2Client& client, size_t times,
                       const std::function<std::string(uint32_t)>& bytes) {
  bool sending = true;
  for (uint32_t i = 0; i < times && sending; ++i) sending = client.send(bytes(i));
  const Frame got = client.next(kGoAway);
  EXPECT_EQ(got.type, kGoAway);
  return got.type == kGoAway ? got.code() : 0;
}

}  // namespace hob::edge
