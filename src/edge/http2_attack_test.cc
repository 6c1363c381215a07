// What attackers do with HTTP/2: floods, resets, bombs, slowness.
#include <gtest/gtest.h>

#include "edge/http2_limits.h"
#include "edge/http2_test_rig.h"

namespace hob::edge {
namespace {

using Http2Attack = Http2;

TEST_P(Http2Attack, FloodsOfCheapFrames) {
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

TEST_P(Http2Attack, RapidReset) {  // CVE-2023-44487
  H2Client client(rig_->port());
  const std::string block = block_of(request("/wait"));
  const uint32_t code = attack(client, kHttp2ResetsMax + 50, [&](uint32_t i) {
    return frame(kHeaders, 5, 2 * i + 1, block) + frame(kReset, 0, 2 * i + 1, big_endian(8, 4));
  });
  EXPECT_EQ(code, static_cast<uint32_t>(kCalm));
  EXPECT_TRUE(Rig::wait_until([&] { return rig_->usage().upstream_connections == 0; }));
  expect_well();
}

TEST_P(Http2Attack, MadeYouReset) {  // CVE-2025-8671
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

TEST_P(Http2Attack, ContinuationFlood) {  // CVE-2024-27316
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

TEST_P(Http2Attack, HpackBomb) {
  H2Client client(rig_->port());
  std::string block = block_of(request("/hello"));
  block += std::string("\x40\x01x\x7f\xa1\x1e") + std::string(4000, 'x');
  block += std::string(10'000, '\xbe');
  client.send(frame(kHeaders, 5, 1, block));
  EXPECT_EQ(client.next(kGoAway).code(), static_cast<uint32_t>(kCalm));
  expect_well();
}

TEST_P(Http2Attack, TooManyStreams) {
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

TEST_P(Http2Attack, WindowsMayNotBeOverrun) {
  // Nobody takes the body: the request waits for a target.
  rig_->apply({rig_->route({})});
  H2Client client(rig_->port());
  client.send(frame(kHeaders, kEndHeaders, 1, block_of(request("/", "POST"))));
  for (int i = 0; i < 100; ++i) client.send(frame(kData, 0, 1, std::string(16'384, 'x')));
  EXPECT_EQ(client.next(kReset).code(), static_cast<uint32_t>(kFlow));
  client.send(frame(kPing, 0, 0, "are you?"));
  EXPECT_EQ(client.next(kPing).payload, "are you?");
}

TEST_P(Http2Attack, AClientThatTakesNothingIsReset) {
  start({.stall = 100});
  H2Client client(rig_->port());
  client.send(frame(kSettings, 0, 0, big_endian(4, 2) + big_endian(0, 4)));
  client.get(1, "/big?1000000");
  EXPECT_EQ(client.next(kReset).code(), static_cast<uint32_t>(kCancel));
  EXPECT_TRUE(Rig::wait_until([&] { return rig_->usage().upstream_connections == 0; }));
}

TEST_P(Http2Attack, SlownessHasItsEnd) {
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

INSTANTIATE_TEST_SUITE_P(Io, Http2Attack, ::testing::ValuesIn(available_io()), io_test_name);

}  // namespace
}  // namespace hob::edge
