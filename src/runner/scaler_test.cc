#include "runner/scaler.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace hob::runner {
namespace {

using namespace std::chrono_literals;
constexpr Instant t0{1'000'000s};
const std::string kService = "s";
const EdgeId kEdge{"e"};

// One edge's counters of one service.
struct Counters {
  link::ServiceLoad load{.service = kService};
  // `seconds` of `rate` requests a second that take `service_time`, all of them with a place.
  void run(double seconds, double rate, double service_time) {
    load.requests_total += static_cast<int64_t>(seconds * rate);
    load.service_us += static_cast<int64_t>(seconds * rate * service_time * 1e6);
    load.in_flight_us += static_cast<int64_t>(seconds * rate * service_time * 1e6);
    load.in_flight = static_cast<int>(rate * service_time);
  }
  link::EdgeReport report() const { return {.services = {load}}; }
};

// What the controller does, without a store: decides, and watches again.
struct Rig {
  Scaler scaler{};
  ScaleLimits limits{.max_concurrency = 10};
  Fleet fleet{.desired = 1, .ready = 1, .settled_at = t0 - 1h};
  Duration start_time{2'000};
  int decisions = 0;
  std::optional<Instant> again{};

  explicit Rig(int min_size = 1) {
    limits.min_size = min_size;
    decide(t0);
  }
  void decide(Instant now) {
    const ScalePlan plan =
        decide_scale({.limits = limits, .load = scaler.load(kService, now), .fleet = fleet}, now);
    fleet.desired = plan.desired;
    again = plan.again;
    ++decisions;
    scaler.watch(kService, limits, fleet, start_time, plan);
  }
  void tell(const link::EdgeReport& report, Instant now, const EdgeId& edge = kEdge) {
    if (!scaler.reported(edge, report, now).empty()) decide(now);
  }
  // Time goes to `until`; only deadlines wake the controller.
  void wait(Instant until) {
    while (again && *again <= until) decide(*again);
  }
};

TEST(Scaler, StartsCapacityOnTheReportThatIsShortOfTargets) {
  Rig rig(0);
  rig.tell({}, t0);
  rig.fleet.desired = 0;
  rig.decide(t0 + 1s);
  ASSERT_EQ(rig.fleet.desired, 0);
  Counters counters;
  counters.load.in_flight = counters.load.queued = 1;
  counters.load.short_of_targets = true;
  rig.tell(counters.report(), t0 + 1001ms);
  EXPECT_EQ(rig.fleet.desired, 1);
}

TEST(Scaler, FindsTheDemandOfASteadyLoadAndStays) {
  Rig rig;
  Counters counters;
  int settled_at = 0;
  for (int second = 1; second <= 400; ++second) {
    counters.run(1, 200, 0.2);
    const int before = rig.fleet.desired;
    rig.tell(counters.report(), t0 + second * 1s);
    if (rig.fleet.desired != before) settled_at = second;
  }
  EXPECT_EQ(rig.fleet.desired, 5);  // 40 at once, and the root of that, by ten
  EXPECT_LE(settled_at, 20);
  EXPECT_LE(rig.decisions, 8);  // not one a report
}

TEST(Scaler, ABurstIsBelievedBeforeItsSecondIsOver) {
  Rig rig;
  Counters counters;
  for (int second = 1; second <= 30; ++second) {
    counters.run(1, 20, 0.2);
    rig.tell(counters.report(), t0 + second * 1s);
  }
  ASSERT_EQ(rig.fleet.desired, 1);
  counters.run(0.25, 400, 0.2);
  rig.tell(counters.report(), t0 + 30'250ms);
  EXPECT_GE(rig.fleet.desired, 6);
}

TEST(Scaler, ScalesInWhenAWholeWindowNeededLess) {
  Rig rig;
  Counters counters;
  for (int second = 1; second <= 400; ++second) {
    counters.run(1, 200, 0.2);
    rig.tell(counters.report(), t0 + second * 1s);
  }
  counters.load.in_flight = 0;
  rig.tell(counters.report(), t0 + 401s);
  rig.tell({}, t0 + 402s);
  for (int second = 403; second < 700; ++second) {
    rig.tell({}, t0 + second * 1s);
    rig.wait(t0 + second * 1s);
    EXPECT_EQ(rig.fleet.desired, 5) << second;
  }
  for (int second = 700; second < 705; ++second) {
    rig.tell({}, t0 + second * 1s);
    rig.wait(t0 + second * 1s);
  }
  EXPECT_EQ(rig.fleet.desired, 1);
}

TEST(Scaler, StopsAServiceWithoutVisitors) {
  Rig rig(0);
  rig.limits.stop_after = 30s;
  Counters counters;
  for (int second = 1; second <= 5; ++second) {
    counters.run(1, 2, 0.01);
    rig.tell(counters.report(), t0 + second * 1s);
  }
  for (int second = 6; second <= 60; ++second) {
    rig.tell({}, t0 + second * 1s);
    rig.wait(t0 + second * 1s);
    EXPECT_EQ(rig.fleet.desired, second < 35 ? 1 : 0) << second;
  }
  counters.load.in_flight = counters.load.queued = 1;
  rig.tell(counters.report(), t0 + 61s);
  EXPECT_EQ(rig.fleet.desired, 1);
}

TEST(Scaler, LongRequestsCountBeforeTheyEnd) {
  Rig rig;
  Counters counters;
  counters.load.in_flight = 35;  // web sockets, say: none ever ended
  for (int second = 1; second <= 5; ++second) {
    counters.load.in_flight_us += 35'000'000;
    rig.tell(counters.report(), t0 + second * 1s);
  }
  EXPECT_EQ(rig.fleet.desired, 5);  // and their spare
}

TEST(Scaler, AQueueOrdersNoMoreThanItsWorkIsWorth) {
  // 40 requests a second of 0.2 s, one task of ten places, then the task is gone for ten seconds:
  // 400 wait. In flight says 40 tasks; half of them drain it in half a second.
  Rig rig;
  Counters counters;
  for (int second = 1; second <= 30; ++second) {
    counters.run(1, 40, 0.2);
    rig.tell(counters.report(), t0 + second * 1s);
  }
  for (int second = 31; second <= 40; ++second) {
    counters.load.queued += 40;
    counters.load.in_flight = counters.load.queued;
    counters.load.in_flight_us += (counters.load.in_flight - 20) * 1'000'000LL;
    rig.tell(counters.report(), t0 + second * 1s);
  }
  EXPECT_GE(rig.fleet.desired, 3);
  EXPECT_LE(rig.fleet.desired, 20);
}

TEST(Scaler, RequestsOneAfterTheOtherNeedOneTask) {
  // Tasks that take one request at once, and a client that sends the next when it has an answer.
  for (const double service_time : {0.002, 0.2, 3.0}) {
    Rig rig(0);
    rig.limits.max_concurrency = 1;
    rig.decide(t0);
    Counters counters;
    double at = 0, ends_at = service_time;
    for (int second = 1; second <= 60; ++second) {
      for (; ends_at <= second; ends_at += service_time) {
        ++counters.load.requests_total;
        counters.load.service_us += static_cast<int64_t>(service_time * 1e6);
      }
      counters.load.in_flight_us += static_cast<int64_t>((second - at) * 1e6);
      counters.load.in_flight = 1;
      at = second;
      // Reports come a little early or late.
      rig.tell(counters.report(), t0 + second * 1s + (second % 3) * 7ms);
      rig.fleet.ready = rig.fleet.desired;
      EXPECT_LE(rig.fleet.desired, 1) << service_time << " s, second " << second;
    }
  }
}

TEST(Scaler, AddsUpEdgesAndForgetsThoseThatGo) {
  Rig rig;
  Counters counters;
  for (int second = 1; second <= 10; ++second) {
    counters.run(1, 100, 0.2);
    rig.tell(counters.report(), t0 + second * 1s, EdgeId{"a"});
    rig.tell(counters.report(), t0 + second * 1s, EdgeId{"b"});
  }
  EXPECT_EQ(rig.fleet.desired, 5);
  for (int second = 11; second <= 500; ++second) {  // "b" says nothing any more
    counters.run(1, 100, 0.2);
    rig.tell(counters.report(), t0 + second * 1s, EdgeId{"a"});
    rig.wait(t0 + second * 1s);
  }
  EXPECT_EQ(rig.fleet.desired, 3);
  // All are gone: nothing is scaled in by what nobody tells.
  rig.wait(t0 + 3h);
  rig.decide(t0 + 3h);
  EXPECT_EQ(rig.fleet.desired, 3);
  rig.tell({}, t0 + 3h, EdgeId{"a"});
  EXPECT_EQ(rig.scaler.load(kService, t0 + 3h).heard_since, t0 + 3h);
}

TEST(Scaler, ARestartedControlScalesNothingInBeforeAWholeWindow) {
  Rig rig;
  rig.fleet.desired = 7;
  rig.decide(t0);
  ASSERT_EQ(rig.fleet.desired, 7);
  for (int second = 1; second <= 302; ++second) {
    rig.tell({}, t0 + second * 1s);
    if (second == 1) rig.decide(t0 + 1s);  // as at each change of its record
    rig.wait(t0 + second * 1s);
    EXPECT_EQ(rig.fleet.desired, second < 301 ? 7 : 1) << second;
  }
}

// 1 ms each: at a report's moment tasks may hold none, and nothing says yet that any was served.
TEST(Scaler, ARestartedControlLearnsFromTheEdgeHowLongRequestsTake) {
  Rig rig;
  Counters counters;
  counters.run(600, 4'000, 0.001);
  counters.load.in_flight = 0;
  rig.tell(counters.report(), t0 + 1s);
  for (int i = 1; i <= 40; ++i) {  // soon one after the other: tables are applied
    counters.run(0.1, 4'000, 0.001);
    counters.load.in_flight = 0;
    rig.tell(counters.report(), t0 + 1s + i * 100ms);
    EXPECT_EQ(rig.fleet.desired, 1) << i;
  }
}

TEST(Scaler, AnEdgeAndItsSuccessorDoNotCountTwice) {
  for (const bool says_so : {true, false}) {
    Rig rig;
    Counters old;
    for (int second = 1; second <= 30; ++second) {
      old.run(1, 200, 0.2);
      rig.tell(old.report(), t0 + second * 1s);
    }
    const int before = rig.fleet.desired;
    old.load.in_flight = 0;
    link::EdgeReport last = old.report();
    last.leaving = true;
    if (says_so) rig.tell(last, t0 + 30'100ms);
    Counters next;
    // Who does not say so is only known by its silence.
    const Duration begins = says_so ? 30'200ms : 30'000ms + kLoadStale;
    for (int second = 0; second <= 40; ++second) {
      if (second > 0) next.run(1, 200, 0.2);
      rig.tell(next.report(), t0 + begins + second * 1s, EdgeId{"successor"});
      EXPECT_LE(rig.fleet.desired, before + 1) << second;
    }
  }
}

TEST(Scaler, ReportsInOneBatchOrOneByOneEndTheSame) {
  Rig one, batch;
  Counters counters;
  for (int second = 1; second <= 60; ++second) {
    counters.run(1, second % 7 == 0 ? 150 : 30, 0.1);
    const Instant now = t0 + second * 1s;
    one.tell(counters.report(), now);
    (void)batch.scaler.reported(kEdge, counters.report(), now);  // control is busy elsewhere
  }
  batch.decide(t0 + 60s);
  one.decide(t0 + 60s);
  EXPECT_EQ(batch.fleet.desired, one.fleet.desired);
  EXPECT_EQ(batch.again, one.again);
  EXPECT_EQ(batch.scaler.load(kService, t0 + 60s).peaks.size(),
            one.scaler.load(kService, t0 + 60s).peaks.size());
}

TEST(Scaler, KeepsNoMoreThanItSays) {
  Rig rig;
  Counters counters;
  for (int i = 0; i < 3'000; ++i) {  // ever less, so that each is a peak
    counters.load.in_flight = 100'000 - i;
    rig.tell(counters.report(), t0 + i * 100ms);
  }
  EXPECT_LE(rig.scaler.load(kService, t0 + 300s).peaks.size(), kPeaksMax);
}

TEST(Scaler, TakesWhatNoEdgeShouldSay) {
  Rig rig;
  link::EdgeReport mad{.services = {{.service = kService,
                                     .in_flight = INT32_MAX,
                                     .queued = INT32_MIN,
                                     .requests_total = INT64_MAX,
                                     .in_flight_us = INT64_MIN,
                                     .service_us = INT64_MAX},
                                    {.service = kService, .in_flight = -5},
                                    {.service = "another"}}};
  for (int second = 0; second < 5; ++second) rig.tell(mad, t0 + second * 1s);
  mad.services[0].requests_total = INT64_MIN;
  rig.tell(mad, t0 + 4s);
  rig.tell(mad, t0 - 1h);  // the clock was set back
  EXPECT_LE(rig.fleet.desired, rig.limits.max_size);
}

TEST(Scaler, AForgottenServiceIsNothingKnownOf) {
  Rig rig;
  Counters counters;
  counters.run(1, 200, 0.2);
  rig.tell(counters.report(), t0 + 1s);
  rig.scaler.forget(kService);
  EXPECT_TRUE(rig.scaler.load(kService, t0 + 1s).peaks.empty());
  EXPECT_EQ(rig.scaler.load(kService, t0 + 1s).in_flight, 0);
  EXPECT_TRUE(rig.scaler.reported(kEdge, counters.report(), t0 + 2s).empty());
}

}  // namespace
}  // namespace hob::runner
