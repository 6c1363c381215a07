// RFC 9113 and RFC 7541 section by section, in the order and by the numbers of h2spec (which has
// those of RFC 7540): what is legal is served, what is wrong is named. Rows that
// http2_violation_test.cc has are not here again.
#include <gtest/gtest.h>

#include "edge/http2_test_rig.h"

namespace hob::edge {
namespace {

using namespace std::string_literals;
using Http2Conformance = Http2;

constexpr uint8_t kPadded = 8;
constexpr uint8_t kPriority = 32;
constexpr uint8_t kWhole = kEndHeaders | kEndStream;

const std::string kGet = block_of(request("/hello"));
const std::string kHello = frame(kHeaders, kWhole, 1, kGet);
const std::string kWait = frame(kHeaders, kWhole, 1, block_of(request("/wait")));
const std::string kPost = frame(kHeaders, kEndHeaders, 1, block_of(request("/length", "POST")));
const std::string kPing8 = frame(kPing, 0, 0, "12345678");
const std::string kPriority5 = "\x80\0\0\x07\xff"s;  // exclusively of stream 7, the greatest weight

// A block of the same request, one of its fields written in another way.
std::string hpack_get(const std::string& path, const std::string& more = "") {
  return "\x82\x86"s + path + "\x01\x0atest.local"s + more;
}
std::string hello_of(const std::string& block) { return frame(kHeaders, kWhole, 1, block); }
std::string with(std::pair<std::string, std::string> field) {
  Fields fields = request("/hello");
  fields.insert(field.first.starts_with(':') ? fields.begin() : fields.end(), std::move(field));
  return hello_of(block_of(fields));
}
std::string without(const std::string& name) {
  Fields fields = request("/hello");
  std::erase_if(fields, [&](const auto& field) { return field.first == name; });
  return hello_of(block_of(fields));
}
std::string post_of(const std::string& length) {
  Fields fields = request("/length", "POST");
  fields.push_back({"content-length", length});
  return frame(kHeaders, kEndHeaders, 1, block_of(fields));
}
std::string setting(uint16_t which, uint32_t value) {
  return big_endian(which, 2) + big_endian(value, 4);
}

TEST_P(Http2Conformance, WhatIsLegalIsServed) {
  const std::string path = "\x04\x06/hello"s;
  struct Case {
    const char* name;
    std::string bytes;  // with a request on stream 1
  };
  for (const Case& c : {
           Case{"generic 2/1 PRIORITY of an idle stream",
                frame(kPriorityFrame, 0, 1, kPriority5) + kHello},
           Case{"generic 2/2 WINDOW_UPDATE of a half-closed stream",
                kHello + frame(kWindow, 0, 1, big_endian(1, 4))},
           Case{"generic 2/3 PRIORITY of a half-closed stream",
                kHello + frame(kPriorityFrame, 0, 1, kPriority5)},
           Case{"generic 3.1/1 DATA", kPost + frame(kData, kEndStream, 1, "x")},
           Case{"generic 3.1/2 several DATA",
                kPost + frame(kData, 0, 1, "x") + frame(kData, kEndStream, 1, "y")},
           Case{"generic 3.1/3 DATA with padding",
                kPost + frame(kData, kPadded | kEndStream, 1, "\x02x\0\0"s)},
           Case{"DATA of padding alone",
                kPost + frame(kData, kPadded | kEndStream, 1, "\x02\0\0"s)},
           Case{"an empty DATA ends", kPost + frame(kData, kEndStream, 1)},
           Case{"generic 3.2/1 HEADERS", kHello},
           Case{"generic 3.2/2 HEADERS with padding",
                frame(kHeaders, kWhole | kPadded, 1, "\x02"s + kGet + "\0\0"s)},
           Case{"generic 3.2/3 HEADERS with priority",
                frame(kHeaders, kWhole | kPriority, 1, kPriority5 + kGet)},
           Case{"generic 3.2 HEADERS with both", frame(kHeaders, kWhole | kPriority | kPadded, 1,
                                                       "\x01"s + kPriority5 + kGet + "\0"s)},
           Case{"generic 3.3 PRIORITY of a stream that is none",
                frame(kPriorityFrame, 0, 99, kPriority5) + kHello},
           Case{"generic 3.5 SETTINGS of all kinds",
                frame(kSettings, 0, 0,
                      setting(1, 100) + setting(2, 0) + setting(3, 10) + setting(4, 65'535) +
                          setting(5, 16'384) + setting(6, 100)) +
                    kHello},
           Case{"generic 3.5 SETTINGS of none", frame(kSettings, 0, 0) + kHello},
           Case{"generic 3.9/1 the connection's WINDOW_UPDATE",
                frame(kWindow, 0, 0, big_endian(1, 4)) + kHello},
           Case{"6.9 the reserved bit of an increment",
                frame(kWindow, 0, 0, big_endian(0x80000001, 4)) + kHello},
           Case{"generic 3.10/1 CONTINUATION",
                frame(kHeaders, kEndStream, 1, kGet.substr(0, 3)) +
                    frame(kContinuation, kEndHeaders, 1, kGet.substr(3))},
           Case{"generic 3.10/2 several CONTINUATION",
                frame(kHeaders, kEndStream, 1) + frame(kContinuation, 0, 1, kGet.substr(0, 1)) +
                    frame(kContinuation, 0, 1, kGet.substr(1)) +
                    frame(kContinuation, kEndHeaders, 1)},
           Case{"generic 4/2 HEAD", frame(kHeaders, kWhole, 1, block_of(request("/head", "HEAD")))},
           Case{"generic 4/4 POST with trailers",
                kPost + frame(kData, 0, 1, "x") +
                    frame(kHeaders, kWhole, 1, block_of({{"x-last", "1"}}))},
           Case{"generic 5 an indexed field", hello_of(hpack_get(path, "\x90"s))},
           Case{"generic 5 indexing, an indexed name", hello_of(hpack_get("\x44\x06/hello"s))},
           Case{"generic 5 indexing, a new name", hello_of(hpack_get(path, "\x40\x04x-ab\x01v"s))},
           Case{"generic 5 no indexing, a new name", hello_of(hpack_get(path, "\0\x04x-ab\x01v"s))},
           Case{"generic 5 never indexed, an indexed name", hello_of(hpack_get("\x14\x06/hello"s))},
           Case{"generic 5 never indexed, a new name",
                hello_of(hpack_get(path, "\x10\x04x-ab\x01v"s))},
           Case{"generic 5 a table's size", hello_of("\x20"s + hpack_get(path))},
           Case{"generic 5 a table's size, twice", hello_of("\x20\x3f\xe1\x1f"s + hpack_get(path))},
           Case{"generic 5 Huffman",
                hello_of(hpack_get(
                    path, "\x40\x04x-ab\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"s))},
           Case{"generic 5 an entry of the table",
                hello_of(hpack_get(path, "\x40\x04x-ab\x01v\xbe"s))},
           Case{"generic 5 an entry too large empties the table",
                hello_of("\x20"s + hpack_get(path, "\x40\x04x-ab\x01v"s))},
           Case{"4.1/1 a frame of an unknown type", frame(0xbe, 0xff, 1, "x") + kHello},
           Case{"5.5/1 an unknown type within a request",
                kPost + frame(0xbe, 0, 1, "x") + frame(kData, kEndStream, 1, "x")},
           Case{"4.1/2 flags without a meaning", frame(kPing, 0xfe, 0, "12345678") + kHello},
           Case{"4.1/3 the reserved bit of a stream", frame(kHeaders, kWhole, 0x80000001, kGet)},
           Case{"4.2/1 DATA of the greatest size",
                kPost + frame(kData, kEndStream, 1, std::string(16'384, 'x'))},
           Case{"5.3.1/1 HEADERS that depend on their own stream (RFC 9113 has given that up)",
                frame(kHeaders, kWhole | kPriority, 1, "\0\0\0\x01\xff"s + kGet)},
           Case{"5.3.1/2 PRIORITY that depends on its own stream (the same)",
                frame(kPriorityFrame, 0, 1, "\0\0\0\x01\xff"s) + kHello},
           Case{"6.5.2/5 a setting that is not known",
                frame(kSettings, 0, 0, setting(0xff, 1)) + kHello},
           Case{"6.5.2 the greatest frames and windows",
                frame(kSettings, 0, 0, setting(5, 0xffffff) + setting(4, 0x7fffffff)) + kHello},
           Case{"6.7/2 an answer to a PING of nobody", frame(kPing, kAck, 0, "12345678") + kHello},
           Case{"6.8 GOAWAY that explains itself",
                frame(kGoAway, 0, 0, big_endian(0, 8) + "leaving") + kHello},
           Case{"7/1 GOAWAY with an unknown error",
                frame(kGoAway, 0, 0, big_endian(0xff, 8)) + kHello},
           Case{"7/2 RST_STREAM with an unknown error",
                frame(kHeaders, kWhole, 1, kGet).replace(8, 1, "\x03") +
                    frame(kReset, 0, 3, big_endian(0xff, 4)) + frame(kHeaders, kWhole, 5, kGet)},
           Case{"8.1.2.2 TE: trailers", with({"te", "trailers"})},
           Case{"8.1.2.5 cookies in crumbs", with({"cookie", "a=1"})},
           Case{"8.1.2.6 a length that is kept",
                post_of("2") + frame(kData, 0, 1, "x") + frame(kData, kEndStream, 1, "y")},
       }) {
    H2Client client(rig_->port());
    client.send(c.bytes);
    // 7/2 has its own request on stream 5.
    const uint32_t stream = std::string_view(c.name).starts_with("7/2") ? 5 : 1;
    EXPECT_NE(client.reply(stream).head.find(":status: 200"), std::string::npos) << c.name;
    EXPECT_EQ(client.ask(99, "/hello").body, "hello") << c.name;
  }
}

TEST_P(Http2Conformance, WhatIsWrongIsNamed) {
  const std::string reset = frame(kReset, 0, 1, big_endian(8, 4));
  const std::string more = frame(kContinuation, kEndHeaders, 1, kGet);
  struct Case {
    const char* name;
    std::string bytes;
    Type answer;  // kGoAway: of the connection; kReset: of the stream
    Code code;
    bool answered = false;  // a request on stream 1 has been before
  };
  for (const Case& c : {
           Case{"4.2/2 DATA too large", kPost + frame(kData, 0, 1, std::string(16'385, 'x')),
                kGoAway, kSize},
           Case{"4.2/3 HEADERS too large", hello_of(kGet + std::string(16'385, 'x')), kGoAway,
                kSize},
           Case{"4.3/2 PRIORITY within a block",
                frame(kHeaders, 0, 1, kGet) + frame(kPriorityFrame, 0, 1, kPriority5), kGoAway,
                kProtocol},
           Case{"4.3/3 HEADERS of another stream within a block",
                frame(kHeaders, 0, 1, kGet) + frame(kHeaders, kWhole, 3, kGet), kGoAway, kProtocol},
           Case{"5.5/2 an unknown type within a block",
                frame(kHeaders, 0, 1, kGet) + frame(0xbe, 0, 1, "x"), kGoAway, kProtocol},
           Case{"6.10/2 DATA within a block", frame(kHeaders, 0, 1, kGet) + frame(kData, 0, 1, "x"),
                kGoAway, kProtocol},
           Case{"5.1/4 CONTINUATION of an idle stream", frame(kContinuation, kEndHeaders, 3, kGet),
                kGoAway, kProtocol},
           Case{"5.1 WINDOW_UPDATE of a stream of ours",
                kPost.substr(0, 8) + "\x05"s + kPost.substr(9) +
                    frame(kWindow, 0, 2, big_endian(1, 4)),
                kGoAway, kProtocol},
           Case{"5.1 RST_STREAM of a stream of ours",
                kPost.substr(0, 8) + "\x05"s + kPost.substr(9) +
                    frame(kReset, 0, 2, big_endian(8, 4)),
                kGoAway, kProtocol},
           Case{"5.1/6 HEADERS of a half-closed stream", kWait + kHello, kReset, kClosed},
           Case{"5.1/7 CONTINUATION of a half-closed stream", kWait + more, kGoAway, kProtocol},
           Case{"5.1/8 DATA after RST_STREAM", kPost + reset + frame(kData, 0, 1, "x"), kReset,
                kClosed},
           Case{"5.1/9 HEADERS after RST_STREAM", kPost + reset + kHello, kGoAway, kClosed},
           Case{"5.1/10 CONTINUATION after RST_STREAM", kPost + reset + more, kGoAway, kProtocol},
           Case{"5.1/11 DATA of a closed stream", frame(kData, kEndStream, 1, "x"), kReset, kClosed,
                true},
           Case{"5.1/12 HEADERS of a closed stream", kHello, kGoAway, kClosed, true},
           Case{"5.1/13 CONTINUATION of a closed stream", more, kGoAway, kProtocol, true},
           Case{"5.1.1/1 a stream of an even number", frame(kHeaders, kWhole, 4, kGet), kGoAway,
                kProtocol},
           Case{"5.1.1/2 a stream of a lower number",
                frame(kHeaders, kWhole, 5, block_of(request("/wait"))) +
                    frame(kHeaders, kWhole, 3, kGet),
                kGoAway, kProtocol},
           Case{"5.4.1 a long PING", frame(kPing, 0, 0, "123456789"), kGoAway, kSize},
           Case{"6.1 padding that is all of DATA", kPost + frame(kData, kPadded, 1, "\x01"s),
                kGoAway, kProtocol},
           Case{"6.1 DATA without its padding's length", kPost + frame(kData, kPadded, 1), kGoAway,
                kSize},
           Case{"6.2 HEADERS without their padding's length", frame(kHeaders, kWhole | kPadded, 1),
                kGoAway, kSize},
           Case{"6.2 HEADERS too short for a priority",
                frame(kHeaders, kWhole | kPriority, 1, "\0\0\0\x07"s), kGoAway, kSize},
           Case{"6.2/4 padding beyond the block",
                frame(kHeaders, kWhole | kPadded, 1, "\x7f"s + kGet), kGoAway, kProtocol},
           Case{"6.3/1 PRIORITY without a stream", frame(kPriorityFrame, 0, 0, kPriority5), kGoAway,
                kProtocol},
           Case{"6.3/2 a long PRIORITY", frame(kPriorityFrame, 0, 1, kPriority5 + "x"), kGoAway,
                kSize},
           Case{"6.4/1 RST_STREAM without a stream", frame(kReset, 0, 0, big_endian(8, 4)), kGoAway,
                kProtocol},
           Case{"6.4/3 a long RST_STREAM", kPost + frame(kReset, 0, 1, big_endian(8, 5)), kGoAway,
                kSize},
           Case{"6.5/3 a setting and a half", frame(kSettings, 0, 0, setting(3, 1) + "123"),
                kGoAway, kSize},
           Case{"6.5.2/2 a window of 2^31", frame(kSettings, 0, 0, setting(4, 0x80000000)), kGoAway,
                kFlow},
           Case{"6.5.2/3 frames of 16,383 bytes", frame(kSettings, 0, 0, setting(5, 16'383)),
                kGoAway, kProtocol},
           Case{"6.5.2/4 frames of 2^24 bytes", frame(kSettings, 0, 0, setting(5, 1 << 24)),
                kGoAway, kProtocol},
           Case{"6.7/4 an empty PING", frame(kPing, 0, 0), kGoAway, kSize},
           Case{"6.8 a short GOAWAY", frame(kGoAway, 0, 0, big_endian(0, 7)), kGoAway, kSize},
           Case{"6.9/3 a long WINDOW_UPDATE", frame(kWindow, 0, 0, big_endian(1, 5)), kGoAway,
                kSize},
           Case{"6.9.1/2 several WINDOW_UPDATE together too wide",
                frame(kWindow, 0, 0, big_endian(0x40000000, 4)) +
                    frame(kWindow, 0, 0, big_endian(0x3fffffff, 4)),
                kGoAway, kFlow},
           Case{"6.9.1/3 the same of a stream",
                kPost + frame(kWindow, 0, 1, big_endian(0x40000000, 4)) +
                    frame(kWindow, 0, 1, big_endian(0x3fffffff, 4)),
                kReset, kFlow},
           Case{"6.9.2/3 a setting that makes a stream's window too wide",
                kPost + frame(kWindow, 0, 1, big_endian(0x7fff0000, 4)) +
                    frame(kSettings, 0, 0, setting(4, 0x20000)),
                kGoAway, kFlow},
           Case{"6.10/3 CONTINUATION without a stream", frame(kContinuation, kEndHeaders, 0, kGet),
                kGoAway, kProtocol},
           Case{"6.10/4 CONTINUATION after a whole block", kPost + more, kGoAway, kProtocol},
           Case{"6.10/5 CONTINUATION after the last",
                frame(kHeaders, 0, 1, kGet) + frame(kContinuation, kEndHeaders, 1) + more, kGoAway,
                kProtocol},
           Case{"6.10/6 CONTINUATION after DATA", kPost + frame(kData, 0, 1, "x") + more, kGoAway,
                kProtocol},
           Case{"8.1/1 a second HEADERS that does not end it",
                kPost + frame(kHeaders, kEndHeaders, 1, block_of({{"x", "1"}})), kReset, kProtocol},
           Case{"8.1.2/1 an upper-case name in trailers",
                kPost + frame(kHeaders, kWhole, 1, "\0\x01X\x01y"s), kReset, kProtocol},
           Case{"8.1.2.1/2 :status in trailers",
                kPost + frame(kHeaders, kWhole, 1, block_of({{":status", "200"}})), kReset,
                kProtocol},
           Case{"8.1.2.2 keep-alive", with({"keep-alive", "1"}), kReset, kProtocol},
           Case{"8.1.2.2 proxy-connection", with({"proxy-connection", "close"}), kReset, kProtocol},
           Case{"8.1.2.2 transfer-encoding", with({"transfer-encoding", "chunked"}), kReset,
                kProtocol},
           Case{"8.1.2.2 upgrade", with({"upgrade", "h2c"}), kReset, kProtocol},
           Case{"8.1.2.2 connection in trailers",
                kPost + frame(kHeaders, kWhole, 1, block_of({{"connection", "close"}})), kReset,
                kProtocol},
           Case{"8.1.2.2/2 TE: trailers and more", with({"te", "trailers, deflate"}), kReset,
                kProtocol},
           Case{"8.1.2.3/2 no :method", without(":method"), kReset, kProtocol},
           Case{"8.1.2.3/3 no :scheme", without(":scheme"), kReset, kProtocol},
           Case{"8.1.2.3/4 no :path", without(":path"), kReset, kProtocol},
           Case{"8.1.2.3/5 two :method", with({":method", "GET"}), kReset, kProtocol},
           Case{"8.1.2.3/6 two :scheme", with({":scheme", "http"}), kReset, kProtocol},
           Case{"8.1.2.3 two :authority", with({":authority", "test.local"}), kReset, kProtocol},
           Case{"8.1.2.3 a host that is another", with({"host", "other.local"}), kReset, kProtocol},
           Case{"8.1.2.6/2 a length that is the sum of less",
                post_of("3") + frame(kData, 0, 1, "x") + frame(kData, kEndStream, 1, "y"), kReset,
                kProtocol},
           Case{"8.1.2.6 a length and no DATA", with({"content-length", "1"}), kReset, kProtocol},
           Case{"8.1.2.6 a length that trailers cut short",
                post_of("3") + frame(kHeaders, kWhole, 1, block_of({{"x", "1"}})), kReset,
                kProtocol},
           Case{"hpack 2.3.3/1 an index of nothing", hello_of("\xbe"s + kGet), kGoAway,
                kCompression},
           Case{"hpack 2.3.3/2 a name of nothing", hello_of("\x7f\x0f\x01x"s + kGet), kGoAway,
                kCompression},
           Case{"hpack 4.2/1 a table's size at the end", hello_of(kGet + "\x20"s), kGoAway,
                kCompression},
           Case{"hpack 4.2 an entry that a smaller table has lost",
                hello_of("\x20"s + kGet + "\x40\x01x\x01y\xbe"s), kGoAway, kCompression},
           Case{"hpack 5.1 an integer without end",
                hello_of(kGet + "\xff\x80\x80\x80\x80\x80\x80\x80\x80"s), kGoAway, kCompression},
           Case{"hpack 5.2 a string beyond the block", hello_of(kGet + "\x40\x0ax"s), kGoAway,
                kCompression},
           Case{"hpack 5.2/1 eight bits of padding", hello_of(kGet + "\x40\x82\xf8\xff\x01y"s),
                kGoAway, kCompression},
           Case{"hpack 5.2/2 padding of zeros", hello_of(kGet + "\x40\x81\x18\x01y"s), kGoAway,
                kCompression},
           Case{"hpack 5.2/3 the end of string", hello_of(kGet + "\x40\x84\xff\xff\xff\xff\x01y"s),
                kGoAway, kCompression},
           Case{"hpack 6.1/1 the index 0", hello_of(kGet + "\x80"s), kGoAway, kCompression},
           Case{"hpack, of trailers", kPost + frame(kHeaders, kWhole, 1, "\x80"s), kGoAway,
                kCompression},
           Case{"hpack, of a block that nobody asked for", kPost + reset + hello_of("\x80"s),
                kGoAway, kCompression},
       }) {
    H2Client client(rig_->port());
    if (c.answered) EXPECT_EQ(client.ask(1, "/hello").body, "hello") << c.name;
    client.send(c.bytes);
    const Frame got = client.next(c.answer);
    EXPECT_EQ(got.type, c.answer) << c.name;
    if (got.type == -1) continue;
    EXPECT_EQ(got.code(), static_cast<uint32_t>(c.code)) << c.name;
    if (c.answer == kGoAway) {
      client.connection().shut();
      EXPECT_EQ(client.next(kPing).type, -1) << c.name;  // it ends
    } else {
      EXPECT_EQ(client.ask(9, "/hello").body, "hello") << c.name;
    }
  }
}

TEST_P(Http2Conformance, WindowsHoldDataBackUntilTheyAreWidened) {
  struct Case {
    const char* name;
    std::string settings;
  };
  for (const Case& c : {
           Case{"6.9.1/1 a window of 1", frame(kSettings, 0, 0, setting(4, 1))},
           Case{"6.5.3/1 of two values the last holds",
                frame(kSettings, 0, 0, setting(4, 100) + setting(4, 1))},
       }) {
    H2Client client(rig_->port());
    client.send(c.settings + kHello);
    const Frame first = client.next(kData);
    EXPECT_EQ(first.payload, "h") << c.name;
    // 6.9.2/2: the window becomes -1, and one more byte is not enough.
    client.send(frame(kSettings, 0, 0, setting(4, 0)) + frame(kWindow, 0, 1, big_endian(1, 4)) +
                kPing8);
    for (Frame got = client.next(); got.type != kPing; got = client.next())
      ASSERT_TRUE(got.type == kSettings) << c.name << got.type;
    // 6.9.2/1: changed while the answer is under way.
    client.send(frame(kSettings, 0, 0, setting(4, 3)));
    EXPECT_EQ(client.next(kData).payload, "ell") << c.name;
    client.send(frame(kWindow, 0, 1, big_endian(9, 4)));
    EXPECT_EQ(client.next(kData).payload, "o") << c.name;
  }
}

TEST_P(Http2Conformance, SettingsAndPingsAreConfirmed) {
  H2Client client(rig_->port());
  // 6.5.3/2: the rig's client has sent its first already.
  Frame got = client.next(kSettings);
  while (got.type == kSettings && (got.flags & kAck) == 0) got = client.next(kSettings);
  EXPECT_EQ(got.flags, kAck);
  EXPECT_EQ(got.payload, "");
  client.send(frame(kSettings, 0, 0, setting(3, 7)));
  EXPECT_EQ(client.next(kSettings).flags, kAck);
  // 6.7/1, /2: what is an answer itself gets none.
  client.send(frame(kPing, kAck, 0, "answered") + kPing8);
  got = client.next(kPing);
  EXPECT_EQ(got.payload, "12345678");
  EXPECT_EQ(got.flags, kAck);
}

TEST_P(Http2Conformance, StreamsBeyondTheLimitAreRefused) {  // 5.1.2
  H2Client client(rig_->port());
  const std::string block = block_of(request("/length", "POST"));
  for (uint32_t i = 0; i <= 128; ++i) client.send(frame(kHeaders, kEndHeaders, 2 * i + 1, block));
  const Frame got = client.next(kReset);
  EXPECT_EQ(got.stream, 257u);
  EXPECT_EQ(got.code(), static_cast<uint32_t>(kRefused));
}

INSTANTIATE_TEST_SUITE_P(Io, Http2Conformance, ::testing::ValuesIn(available_io()), io_test_name);

}  // namespace
}  // namespace hob::edge
