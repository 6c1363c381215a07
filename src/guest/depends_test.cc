#include "guest/depends.h"

#include <gtest/gtest.h>

namespace hob::guest {
namespace {

Container named(std::string name, std::vector<Dependency> depends_on = {}, bool checked = false) {
  Container container{.name = std::move(name), .depends_on = std::move(depends_on)};
  if (checked) container.health = HealthCheck{.command = {"true"}};
  return container;
}

TEST(GuestDepends, AContainerStartsWhenWhatItWaitsForIsSo) {
  using enum ContainerState;
  struct Case {
    const char* name;
    Condition condition;
    ContainerView other;
    bool starts, refused;
  };
  for (const Case& c : {Case{"start, waiting", Condition::kStart, {kWaiting}, false, false},
                        Case{"start, running", Condition::kStart, {kRunning}, true, false},
                        Case{"start, ended", Condition::kStart, {kExited, 3}, true, false},
                        Case{"complete, running", Condition::kComplete, {kHealthy}, false, false},
                        Case{"complete, ended", Condition::kComplete, {kExited, 3}, true, false},
                        Case{"success, ended well", Condition::kSuccess, {kExited, 0}, true, false},
                        Case{"success, ended", Condition::kSuccess, {kExited, 3}, false, true},
                        Case{"healthy, running", Condition::kHealthy, {kRunning}, false, false},
                        Case{"healthy", Condition::kHealthy, {kHealthy}, true, false},
                        Case{"healthy, ended", Condition::kHealthy, {kExited, 0}, false, true}}) {
    const std::vector<Container> containers = {
        named("db", {}, true), named("web", {{.container = "db", .condition = c.condition}})};
    const Decision decision = decide_start(containers, {c.other, {}});
    EXPECT_EQ(std::ranges::count(decision.start, 1), c.starts ? 1 : 0) << c.name;
    EXPECT_EQ(std::ranges::count(decision.refuse, 1), c.refused ? 1 : 0) << c.name;
  }
}

TEST(GuestDepends, WhatNobodyWaitsForStartsInOrder) {
  EXPECT_EQ(decide_start({named("a"), named("b")}, {{}, {}}).start, (std::vector<int>{0, 1}));
  EXPECT_TRUE(decide_start({named("a")}, {{.state = ContainerState::kRunning}}).start.empty());
}

TEST(GuestDepends, WhatCannotBeIsRefusedAtOnce) {
  struct Case {
    const char* part;
    std::vector<Container> containers;
  };
  for (const Case& c :
       {Case{"two containers are named 'a'", {named("a"), named("a")}},
        Case{"'a' depends on 'x', which is not there", {named("a", {{.container = "x"}})}},
        Case{"'a' waits for itself", {named("a", {{.container = "a"}})}},
        Case{"'b' waits for itself",
             {named("a"), named("b", {{.container = "c"}}),
              named("c", {{.container = "a"}, {.container = "b"}})}},
        Case{"has no health check",
             {named("a"), named("b", {{.container = "a", .condition = Condition::kHealthy}})}}}) {
    const auto checked = check_dependencies(c.containers);
    ASSERT_FALSE(checked) << c.part;
    EXPECT_NE(checked.error().message.find(c.part), std::string::npos) << checked.error().message;
  }
  EXPECT_TRUE(check_dependencies(
      {named("b", {{.container = "a", .condition = Condition::kHealthy}}), named("a", {}, true)}));
}

}  // namespace
}  // namespace hob::guest
