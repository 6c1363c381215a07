#include <gtest/gtest.h>

#include "guest/frame.h"

namespace hob::guest {
namespace {

std::string framed(FrameKind kind, uint8_t container, std::string_view body) {
  std::string bytes;
  append_frame(bytes, kind, container, body);
  return bytes;
}

TEST(GuestFrame, FramesComeOutAsTheyWentInHoweverTheyAreCut) {
  const std::string bytes = framed(FrameKind::kRecord, 0, "{}") +
                            framed(FrameKind::kOutput, 3, std::string("a\0b", 3)) +
                            framed(FrameKind::kErrors, 15, "") +
                            framed(FrameKind::kInput, 0, std::string(kDataBytesMax, 'x'));
  for (const size_t piece : {size_t{1}, size_t{7}, size_t{8}, size_t{4096}, bytes.size()}) {
    FrameReader reader(kReportBytesMax);
    std::vector<Frame> frames;
    for (size_t at = 0; at < bytes.size(); at += piece) {
      reader.feed(std::string_view(bytes).substr(at, piece));
      for (auto frame = reader.next(); frame && *frame; frame = reader.next())
        frames.push_back(std::move(**frame));
    }
    ASSERT_EQ(frames.size(), 4u) << piece;
    EXPECT_EQ(frames[0].body, "{}");
    EXPECT_EQ(frames[1].container, 3);
    EXPECT_EQ(frames[1].body, std::string("a\0b", 3));
    EXPECT_EQ(frames[2].kind, FrameKind::kErrors);
    EXPECT_EQ(frames[3].body.size(), kDataBytesMax);
  }
}

TEST(GuestFrame, WhatIsNoFrameIsRefusedBeforeItsBodyCame) {
  struct Case {
    const char* name;
    std::string bytes;
  };
  const std::string good = framed(FrameKind::kRecord, 0, "");
  const auto with = [&](size_t at, unsigned char value) {
    std::string bytes = good;
    bytes[at] = static_cast<char>(value);
    return bytes;
  };
  for (const Case& c :
       {Case{"no kind", with(4, 0)}, Case{"an unknown kind", with(4, 5)},
        Case{"no such container", with(5, kContainersMax)},
        Case{"something where nothing is", with(7, 1)}, Case{"a long record", with(2, 2)},
        Case{"a very long one", with(3, 0xff)}}) {
    FrameReader reader(kReportBytesMax);
    reader.feed(c.bytes);
    EXPECT_FALSE(reader.next()) << c.name;
  }
  FrameReader reader(kOrderBytesMax);
  reader.feed(with(2, 2));
  EXPECT_TRUE(reader.next()) << "the host may send longer ones";
}

TEST(GuestProtocol, RecordsAreReadAsTheyWereWritten) {
  Start start;
  start.host_name = "ip-198-18-0-17";
  start.network = Network{.address = "198.18.0.17", .prefix_length = 20, .gateway = "198.18.0.1"};
  Container container;
  container.name = "web";
  container.arguments = {"/bin/sh", "-c", "echo \x01 'ü'"};
  container.depends_on = {{.container = "db", .condition = Condition::kHealthy}};
  container.health = HealthCheck{.command = {"true"}, .retries = 7};
  start.containers = {container, {}};
  const auto order = decode_order(encode(Order{.start = start}));
  ASSERT_TRUE(order) << order.error().message;
  EXPECT_EQ(order->start->network->address, "198.18.0.17");
  EXPECT_EQ(order->start->containers[0].arguments, container.arguments);
  EXPECT_EQ(order->start->containers[0].depends_on[0].condition, Condition::kHealthy);
  EXPECT_EQ(order->start->containers[0].health->retries, 7);
  EXPECT_FALSE(order->signal);
  const auto report = decode_report(
      encode(Report{.event = Event::kExited, .exit_code = 137, .out_of_memory = true}));
  ASSERT_TRUE(report);
  EXPECT_EQ(report->exit_code, 137);
  EXPECT_TRUE(report->out_of_memory);
}

TEST(GuestProtocol, AReportsReasonFitsWhateverItHolds) {
  const auto report = decode_report(
      encode(Report{.event = Event::kFailed, .reason = std::string(1 << 20, '\x01') + "\xff"}));
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_TRUE(decode_report(encode(Report{.reason = "\xc3"})));
}

TEST(GuestProtocol, WhatBreaksALimitIsRefused) {
  for (const char* text :
       {"", "{}", "[]", R"({"signal":{},"clock_nanoseconds":1})", R"({"start":{}})",
        R"({"start":{"containers":[{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}]}})"})
    EXPECT_FALSE(decode_order(text)) << text;
  for (const char* text : {"", "[]", R"({"container":16})", R"({"container":-1})",
                           R"({"exit_code":256})", R"({"exit_code":-1})", R"({"event":"REBOOT"})"})
    EXPECT_FALSE(decode_report(text)) << text;
}

}  // namespace
}  // namespace hob::guest
