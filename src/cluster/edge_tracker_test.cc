#include "cluster/edge_tracker.h"

#include <gtest/gtest.h>

namespace hob::cluster {
namespace {

using namespace std::chrono_literals;
constexpr Instant t0{1'000'000s};

link::RouteTable table(int64_t version, std::vector<std::string> ready,
                       std::vector<std::string> draining = {}) {
  link::RouteTable made{.version = version, .routes = {{}}};
  for (auto& id : ready) made.routes[0].targets.push_back({.task = TaskId{id}});
  for (auto& id : draining)
    made.routes[0].targets.push_back({.task = TaskId{id}, .state = link::TargetState::kDraining});
  return made;
}
std::string show(const EdgeTracker& tracker, const char* task, Duration now) {
  const Traffic traffic = tracker.traffic(TaskId{task}, t0 + now);
  return traffic.ready ? "ready" : traffic.gone ? "gone" : "between";
}
const EdgeId e1{"e1"}, e2{"e2"};

TEST(EdgeTracker, EveryEdgeCounts) {
  EdgeTracker tracker(t0);
  tracker.connected(e1, t0);
  tracker.connected(e2, t0);
  tracker.sent(table(5, {"a"}), t0);
  EXPECT_EQ(show(tracker, "a", 0s), "between") << "no edge has said anything";
  EXPECT_TRUE(tracker.reported(e1, {.applied_version = 5}));
  EXPECT_EQ(show(tracker, "a", 0s), "between");
  EXPECT_TRUE(tracker.reported(e2, {.applied_version = 5}));
  EXPECT_EQ(show(tracker, "a", 0s), "ready");
  EXPECT_EQ(show(tracker, "never", 0s), "gone");

  tracker.sent(table(6, {}, {"a"}), t0);
  EXPECT_EQ(show(tracker, "a", 0s), "between") << "they may still use the old table";
  (void)tracker.reported(e1, {.applied_version = 6, .targets = {{TaskId{"a"}, 2}}});
  (void)tracker.reported(e2, {.applied_version = 6});
  EXPECT_EQ(show(tracker, "a", 0s), "between") << "two requests still run";
  EXPECT_TRUE(tracker.reported(e1, {.applied_version = 6, .targets = {{TaskId{"a"}, 0}}}));
  EXPECT_EQ(show(tracker, "a", 0s), "gone");
}

TEST(EdgeTracker, ATableThatWasSentMayBeUsedAtAnyTime) {
  EdgeTracker tracker(t0);
  tracker.connected(e1, t0);
  tracker.sent(table(1, {}), t0);
  (void)tracker.reported(e1, {.applied_version = 1});
  EXPECT_EQ(show(tracker, "a", 0s), "gone");
  tracker.sent(table(2, {"a"}), t0);
  tracker.sent(table(3, {}), t0);
  EXPECT_EQ(show(tracker, "a", 0s), "between") << "the edge is between 1 and 3, perhaps at 2";
  (void)tracker.reported(e1, {.applied_version = 3});
  EXPECT_EQ(show(tracker, "a", 0s), "gone");
}

TEST(EdgeTracker, NobodyIsWaitedForForever) {
  EdgeTracker tracker(t0);
  tracker.sent(table(1, {"a"}), t0);
  EXPECT_EQ(show(tracker, "a", 29s), "between") << "edges may be about to connect";
  EXPECT_EQ(show(tracker, "a", 30s), "ready") << "there is none";
  tracker.connected(e1, t0 + 40s);
  EXPECT_EQ(show(tracker, "a", 41s), "between");
  (void)tracker.reported(e1, {.applied_version = 1});
  tracker.left(e1, t0 + 50s);
  tracker.sent(table(2, {}), t0 + 50s);
  EXPECT_EQ(show(tracker, "a", 109s), "between") << "it may go on with what it knows";
  EXPECT_EQ(show(tracker, "a", 110s), "gone");
  tracker.connected(e1, t0 + 120s);
  EXPECT_EQ(show(tracker, "a", 121s), "between") << "it is back, and has said nothing";
  EXPECT_EQ(tracker.changes_at(t0 + 121s), t0 + 170s)
      << "behind since 50 s: coming back resets nothing";
  EXPECT_EQ(show(tracker, "a", 170s), "gone");
}

TEST(EdgeTracker, AnEdgeThatLeavesForGoodIsNotWaitedFor) {
  EdgeTracker tracker(t0);
  tracker.connected(e1, t0);
  tracker.connected(e2, t0);
  tracker.sent(table(1, {"a"}), t0);
  (void)tracker.reported(e1, {.applied_version = 1, .leaving = true});
  (void)tracker.reported(e2, {.applied_version = 1});
  tracker.sent(table(2, {}), t0);
  (void)tracker.reported(e2, {.applied_version = 2});
  EXPECT_EQ(show(tracker, "a", 1s), "between") << "it is still there";
  tracker.left(e1, t0 + 1s);
  EXPECT_EQ(show(tracker, "a", 1s), "gone");
  EXPECT_TRUE(tracker.forgotten(e1, t0 + 1s));
}

TEST(EdgeTracker, EdgesOfAnEarlierControlAreWaitedFor) {
  EdgeTracker tracker(t0);
  tracker.expect(e2, t0);
  tracker.connected(e1, t0);
  tracker.sent(table(3, {}), t0);
  (void)tracker.reported(e1, {.applied_version = 3});
  EXPECT_EQ(show(tracker, "a", 59s), "between") << "e2 may be sending requests by an old table";
  EXPECT_EQ(show(tracker, "a", 60s), "gone");
  EXPECT_TRUE(tracker.forgotten(e2, t0 + 60s));
  EXPECT_FALSE(tracker.forgotten(e1, t0 + 60s));
}

TEST(EdgeTracker, ALaggingEdgeIsGivenTime) {
  EdgeTracker tracker(t0);
  tracker.connected(e1, t0);
  tracker.sent(table(1, {"a"}), t0);
  (void)tracker.reported(e1, {.applied_version = 1});
  tracker.sent(table(2, {}), t0 + 10s);
  EXPECT_EQ(show(tracker, "a", 129s), "between");
  EXPECT_EQ(show(tracker, "a", 130s), "gone");
}

TEST(EdgeTracker, AnEarlierControlsTableSaysNothing) {
  EdgeTracker tracker(t0);
  tracker.connected(e1, t0);
  tracker.sent(table(9, {"a"}), t0);
  (void)tracker.reported(e1, {.applied_version = 7});
  EXPECT_EQ(show(tracker, "a", 1s), "between");
  EXPECT_EQ(show(tracker, "b", 1s), "between") << "table 7 may name it";
}

}  // namespace
}  // namespace hob::cluster
