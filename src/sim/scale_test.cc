// The scaling policy played against its peers, under virtual time: the same seed gives the same
// result, so that what holds once holds always. bench/scale prints the whole table.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "sim/request_simulation.h"

namespace hob::sim {
namespace {

Outcome play(std::string_view policy, std::string_view trace, SimSettings settings,
             uint64_t seed = 1) {
  const auto made = make_policy(policy, settings);
  return simulate(draw_trace(trace, seed), settings, *made);
}

TEST(RequestSimulation, TheSameSeedGivesTheSame) {
  const Outcome a = play("hob", "sine", {}), b = play("hob", "sine", {});
  EXPECT_EQ(a.awake_seconds, b.awake_seconds);
  EXPECT_EQ(a.p999, b.p999);
  EXPECT_EQ(a.starts, b.starts);
}

TEST(RequestSimulation, ServesEveryRequestAndCountsWhatRuns) {
  // One instance that is always there, and less to do than it takes.
  const SimSettings settings{.min_size = 1, .max_size = 1};
  const Outcome one = play("knative", "sparse", settings);
  EXPECT_EQ(one.starts, 0);
  EXPECT_EQ(one.longest, 0);
  EXPECT_NEAR(one.awake_seconds, 900, 1e-6);
  EXPECT_EQ(one.most, 1);
}

TEST(ScalePolicy, IsNeverAboveTheMaximumNorBelowTheMinimum) {
  for (const std::string_view trace : kTraces) {
    for (const int min : {0, 1, 3}) {
      const SimSettings settings{.min_size = min, .max_size = 8};
      const Outcome outcome = play("hob", trace, settings);
      for (const Sample& sample : outcome.samples) {
        if (sample.at == 0) continue;
        EXPECT_LE(sample.desired, 8) << trace << " at " << sample.at;
        EXPECT_GE(sample.desired, min) << trace << " at " << sample.at;
      }
    }
  }
}

// On seed 11, which was looked at while the rule and its figures were chosen, as were "drift" and
// "long requests"; and on one that was not.
TEST(ScalePolicy, IsNoWorseThanKnativesFormulas) {
  constexpr uint64_t kSeeds[] = {11, 23};
  std::vector<std::string_view> traces(std::begin(kTraces), std::end(kTraces));
  traces.insert(traces.end(), std::begin(kHeldOutTraces), std::end(kHeldOutTraces));
  for (const std::string_view trace : traces) {
    for (const double start_time : {0.15, 2.0, 20.0}) {
      for (const uint64_t seed : kSeeds) {
        const SimSettings settings{.start_time = start_time};
        const Outcome ours = play("hob", trace, settings, seed);
        const Outcome theirs = play("knative", trace, settings, seed);
        const std::string where =
            fmt::format("{}, starts of {} s, seed {}", trace, start_time, seed);
        EXPECT_LE(ours.awake_seconds, theirs.awake_seconds) << where;
        EXPECT_LE(ours.p99, theirs.p99 + settings.wake_time) << where;
        EXPECT_LE(ours.p999, theirs.p999 + settings.wake_time) << where;
        EXPECT_LE(ours.late, theirs.late + 0.0001) << where;
      }
    }
  }
}

// Control that begins anew, and an edge that takes another's place, know nothing of what was; that
// is no reason to order more, but for what a measurement may be off.
TEST(ScalePolicy, RestartsOrderNothing) {
  for (const std::string_view trace : {"short requests", "sine", "step"}) {
    const auto most = [&](const SimSettings& settings) {
      int desired = 0;
      for (const Sample& sample : play("hob", trace, settings).samples)
        desired = std::max(desired, sample.desired);
      return desired;
    };
    const int without = most({});
    EXPECT_LE(most({.control_restarts = 20}), without + 1) << trace;
    EXPECT_LE(most({.edge_changes = 20}), without + 1) << trace;
  }
}

// With minimum 0 a rare visitor meets one cold start, and then a task that sleeps.
TEST(ScalePolicy, SparseVisitorsMeetOneColdStart) {
  const Outcome outcome = play("hob", "sparse", {.min_size = 0, .start_time = 2});
  EXPECT_EQ(outcome.starts, 1);
  EXPECT_NEAR(outcome.longest, 2, 0.01);
}

}  // namespace
}  // namespace hob::sim
