// HTTP/2 as clients see it: what it carries, windows, ends; clients that others wrote.
#include <gtest/gtest.h>

#include <algorithm>

#include "edge/http2_limits.h"
#include "edge/http2_test_rig.h"

namespace hob::edge {
namespace {

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
