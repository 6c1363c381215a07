#include "cli/supervisor_state.h"

#include <gtest/gtest.h>

namespace hob::cli {
namespace {

// As the first version that had successors wrote it.
constexpr const char* kSample =
    R"({"sockets":{"api":7,"http":8},"lock":5,"roles":[
{"name":"host","pid":100,"errors":10,"words":11,"program":6,"argv":["/usr/sbin/hobd","--role","host"],
 "fds":[{"ours":8,"theirs":4}],"uid":0,"network_namespace":"","metrics_socket":-1,"metrics_path":"",
 "version":"0.9","prepared":true,"ready":true,"restarts":2,"failures":0,"handing_over":false,"cut_short":false,
 "drain_left":0},
{"name":"control","pid":-1,"program":6,"argv":["/usr/sbin/hobd"]},
{"name":"edge","pid":101,"errors":12,"words":13,"program":6,"argv":["/usr/sbin/hobd"]},
{"name":"edge","pid":102,"errors":14,"words":15,"program":4,"argv":["/usr/sbin/hobd"],"metrics_socket":16,
 "handing_over":true,"drain_left":5000}],"drain":600000,"a later version's":[1]})";

TEST(SupervisorState, TheFirstVersionsIsRead) {
  const auto state = decode_supervisor_state(kSample);
  ASSERT_TRUE(state.has_value()) << state.error().message;
  EXPECT_EQ(state->drain, Duration(600'000));
  ASSERT_EQ(state->roles.size(), 4U);
  EXPECT_EQ(state->roles[0].restarts, 2);
  EXPECT_EQ(state->roles[3].drain_left, Duration(5'000));
  EXPECT_EQ(descriptors_of(*state), (std::vector<int>{4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15, 16}));
  const auto again = decode_supervisor_state(encode(*state));
  ASSERT_TRUE(again.has_value());
  EXPECT_EQ(encode(*again), encode(*state));
}

TEST(SupervisorState, WhatNoSupervisorIsIsRefused) {
  const auto with = [](const char* more) {
    return std::string(R"({"roles":[{"name":"host","program":6,"argv":["h"]},)"
                       R"({"name":"control","program":6,"argv":["c"]},)"
                       R"({"name":"edge","program":6,"argv":["e"]})") +
           more + "]}";
  };
  ASSERT_TRUE(decode_supervisor_state(with("")).has_value());
  struct Case {
    const char* name;
    std::string text;
    const char* want;
  };
  for (const Case& c : {
           Case{"nothing", "", ""},
           Case{"no role", "{}", "it has not one control"},
           Case{"two controls", with(R"(,{"name":"control","program":6,"argv":["c"]})"),
                "it has not one control"},
           Case{"an edge without a program", with(R"(,{"name":"edge","handing_over":true})"),
                "edge has no program"},
           Case{"a child that nobody hears",
                with(R"(,{"name":"edge","program":6,"argv":["e"],"handing_over":true,"pid":9})"),
                "edge runs without pipes"},
           Case{"a host that hands over",
                with(R"(,{"name":"host","program":6,"argv":["e"],"handing_over":true})"),
                "host cannot hand over"},
           Case{"too long", std::string(kStateBytesMax + 1, ' '), "over 1048576 bytes"},
       }) {
    const auto state = decode_supervisor_state(c.text);
    ASSERT_FALSE(state.has_value()) << c.name;
    if (c.want[0] != '\0') EXPECT_EQ(state.error().message, c.want) << c.name;
  }
}

}  // namespace
}  // namespace hob::cli
