#include "cluster/version_outcomes.h"

#include <gtest/gtest.h>

namespace hob::cluster {
namespace {

using namespace std::chrono_literals;
constexpr Instant t0{1'000'000s};
const EdgeId kEdge{"e1"};

link::EdgeReport report(int64_t requests, int64_t failures) {
  return {.versions = {{.service = "s",
                        .version = "v",
                        .requests_total = requests,
                        .failures_total = failures}}};
}
std::string show(const OutcomeTracker& tracker) {
  const VersionOutcomes outcomes = tracker.of("s", DeploymentId{"v"});
  return fmt::format("{}/{} lately {}/{}", outcomes.all.failures, outcomes.all.requests,
                     outcomes.lately.failures, outcomes.lately.requests);
}

TEST(VersionOutcomes, AreWhatEdgesCountedSinceTheyAreKnown) {
  OutcomeTracker tracker;
  (void)tracker.reported(kEdge, report(500, 50), t0);
  EXPECT_EQ(show(tracker), "0/0 lately 0/0") << "counted while control was away";
  EXPECT_EQ(tracker.reported(kEdge, report(510, 51), t0 + 1s), std::set<std::string>{"s"});
  EXPECT_EQ(show(tracker), "1/10 lately 1/10");
  EXPECT_TRUE(tracker.reported(kEdge, report(510, 51), t0 + 2s).empty()) << "nothing new";
  (void)tracker.reported(kEdge, report(4, 4), t0 + 3s);
  EXPECT_EQ(show(tracker), "5/14 lately 5/14") << "the edge was started again";
}

TEST(VersionOutcomes, ANewVersionOfAKnownEdgeCountsFromItsFirstRequest) {
  OutcomeTracker tracker;
  (void)tracker.reported(kEdge, {}, t0);
  (void)tracker.reported(kEdge, report(7, 2), t0 + 1s);
  EXPECT_EQ(show(tracker), "2/7 lately 2/7");
}

TEST(VersionOutcomes, LatelyIsOneWindowOrTwoAndStaysWhenNobodyAsks) {
  OutcomeTracker tracker;
  (void)tracker.reported(kEdge, {}, t0);
  (void)tracker.reported(kEdge, report(10, 10), t0);
  (void)tracker.reported(kEdge, report(20, 10), t0 + kOutcomesWindow);
  EXPECT_EQ(show(tracker), "10/20 lately 10/20");
  (void)tracker.reported(kEdge, report(30, 10), t0 + 2 * kOutcomesWindow);
  EXPECT_EQ(show(tracker), "10/30 lately 0/20");
  (void)tracker.reported(kEdge, {}, t0 + 9 * kOutcomesWindow);
  EXPECT_EQ(show(tracker), "10/30 lately 0/20");
  (void)tracker.reported(kEdge, report(31, 11), t0 + 9 * kOutcomesWindow);
  EXPECT_EQ(show(tracker), "11/31 lately 1/1");
}

TEST(VersionOutcomes, AMadEdgeIsBounded) {
  OutcomeTracker tracker;
  (void)tracker.reported(kEdge, {}, t0);
  (void)tracker.reported(kEdge, report(-5, 99), t0);
  EXPECT_EQ(show(tracker), "0/0 lately 0/0");
  (void)tracker.reported(kEdge, report(3, 99), t0);
  EXPECT_EQ(show(tracker), "3/3 lately 3/3");
}

}  // namespace
}  // namespace hob::cluster
