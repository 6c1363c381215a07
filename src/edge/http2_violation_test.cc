// What of HTTP/2 is wrong, and how it is answered.
#include <gtest/gtest.h>

#include "edge/http2_test_rig.h"

namespace hob::edge {
namespace {

using Http2Violation = Http2;

Fields changed(Fields fields, std::pair<std::string, std::string> added) {
  // Pseudo fields come first.
  const bool pseudo = added.first.starts_with(':');
  fields.insert(pseudo ? fields.begin() : fields.end(), std::move(added));
  return fields;
}

TEST_P(Http2Violation, WhatIsWrongIsNamed) {
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
           Case{"a setting of RFC 8441 that is neither",
                frame(kSettings, 0, 0, big_endian(0x800000002, 6)), kGoAway, kProtocol},
           Case{"a protocol without CONNECT",
                frame(kHeaders, 5, 1, block_of(changed(request("/"), {":protocol", "websocket"}))),
                kReset, kProtocol},
           Case{
               "a protocol that is empty",
               frame(kHeaders, 4, 1, block_of(changed(request("/", "CONNECT"), {":protocol", ""}))),
               kReset, kProtocol},
           Case{"an extended CONNECT without a path",
                frame(kHeaders, 4, 1,
                      block_of({{":method", "CONNECT"},
                                {":protocol", "websocket"},
                                {":scheme", "http"},
                                {":authority", "test.local"}})),
                kReset, kProtocol},
           Case{"an extended CONNECT without a scheme",
                frame(kHeaders, 4, 1,
                      block_of({{":method", "CONNECT"},
                                {":protocol", "websocket"},
                                {":path", "/"},
                                {":authority", "test.local"}})),
                kReset, kProtocol},
           Case{"an extended CONNECT with a length",
                frame(kHeaders, 4, 1,
                      block_of(changed(changed(request("/", "CONNECT"), {":protocol", "websocket"}),
                                       {"content-length", "0"}))),
                kReset, kProtocol},
           Case{"CONNECT with a path", frame(kHeaders, 4, 1, block_of(request("/", "CONNECT"))),
                kReset, kProtocol},
           Case{"an upper-case name", frame(kHeaders, 5, 1, get + std::string("\x40\x01X\x01y")),
                kReset, kProtocol},
           Case{"a field of connections",
                frame(kHeaders, 5, 1, block_of(changed(request("/"), {"connection", "close"}))),
                kReset, kProtocol},
           Case{"TE that is not trailers",
                frame(kHeaders, 5, 1, block_of(changed(request("/"), {"te", "gzip"}))), kReset,
                kProtocol},
           Case{"an unknown pseudo field",
                frame(kHeaders, 5, 1, block_of(changed(request("/"), {":test", "x"}))), kReset,
                kProtocol},
           Case{"a pseudo field of answers",
                frame(kHeaders, 5, 1, block_of(changed(request("/"), {":status", "200"}))), kReset,
                kProtocol},
           Case{"a pseudo field after others",
                frame(kHeaders, 5, 1,
                      block_of(
                          {{":method", "GET"}, {":scheme", "http"}, {"x", "1"}, {":path", "/"}})),
                kReset, kProtocol},
           Case{"two paths", frame(kHeaders, 5, 1, block_of(changed(request("/"), {":path", "/"}))),
                kReset, kProtocol},
           Case{"an empty path", frame(kHeaders, 5, 1, block_of(request(""))), kReset, kProtocol},
           Case{"a table made larger than it may be",
                frame(kHeaders, 5, 1, std::string("\x3f\xe2\x1f") + get), kGoAway, kCompression},
           Case{"an index beyond the tables", frame(kHeaders, 5, 1, get + "\xff\x80\x01"), kGoAway,
                kCompression},
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

TEST_P(Http2Violation, WhatIsNotHttp2IsNotTakenForIt) {
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

INSTANTIATE_TEST_SUITE_P(Io, Http2Violation, ::testing::ValuesIn(available_io()), io_test_name);

}  // namespace
}  // namespace hob::edge
