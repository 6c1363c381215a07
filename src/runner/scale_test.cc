#include "runner/scale.h"

#include <gtest/gtest.h>

#include <random>

#include "runner/extensions.h"

namespace hob::runner {
namespace {

using namespace std::chrono_literals;
constexpr Instant t0{1'000'000s};

// A service that edges have told of for long, with requests asking for `slots` since `ago`.
ScaleView view_of(int min, int max, int desired, std::vector<Peak> peaks = {}) {
  return {.limits = {.min_size = min, .max_size = max, .max_concurrency = 10},
          .load = {.peaks = std::move(peaks), .heard_since = t0 - 1h},
          .fleet = {.desired = desired, .ready = desired, .settled_at = t0 - 1h}};
}
template <class F>
ScaleView with(ScaleView view, F change) {
  change(view);
  return view;
}
std::string show(const ScalePlan& plan) {
  if (!plan.again) return fmt::format("{}", plan.desired);
  return fmt::format("{} again {}s", plan.desired, (*plan.again - t0) / 1s);
}

TEST(Scale, Slots) {
  struct Case {
    const char* name;
    Work work;
    Duration start_time;
    double want;
  };
  for (const Case& c : {
           Case{"nothing", {}, 0ms, 0},
           Case{"the demand and its root", {.demand = 16, .service_time = 0.1}, 0ms, 19.87},
           Case{"what is held counts whatever the demand",
                {.demand = 1, .running = 30, .service_time = 0.1},
                0ms,
                30},
           Case{
               "no request has ended: what is in flight", {.running = 10, .waiting = 90}, 0ms, 100},
           Case{"a queue that short requests leave fast",
                {.demand = 4, .running = 4, .waiting = 50, .service_time = 0.1},
                0ms,
                15.73},
           Case{"long ones wait for a place each",
                {.demand = 4, .running = 4, .waiting = 9, .service_time = 60},
                0ms,
                14.73},
           Case{"after a slow start a queue has more time to drain",
                {.demand = 4, .running = 4, .waiting = 100, .service_time = 1, .places = 4},
                20s,
                85.73},
           Case{"what will have come when a start ends",
                {.demand = 40, .running = 10, .waiting = 1, .service_time = 0.2, .places = 10},
                2s,
                166.64},
           Case{"where all have a place nobody will wait",
                {.demand = 40, .running = 40, .service_time = 0.2, .places = 10},
                2s,
                46.24},
           Case{"one request after the other needs one place",
                {.demand = 1.1, .running = 1, .service_time = 0.2, .places = 1},
                2s,
                1},
           Case{"nobody was served yet: requests take what is usual", {.waiting = 90}, 0ms, 45},
           Case{"one that waits wants one more than are held",
                {.running = 10, .waiting = 1, .service_time = 0.001},
                0ms,
                11},
       }) {
    EXPECT_NEAR(slots_needed(c.work, c.start_time), c.want, 0.05) << c.name;
  }
  EXPECT_EQ(tasks_for(0, 10), 0);
  EXPECT_EQ(tasks_for(0.1, 10), 1);
  EXPECT_EQ(tasks_for(10, 10), 1);
  EXPECT_EQ(tasks_for(10.1, 10), 2);
}

TEST(Scale, Decides) {
  struct Case {
    const char* name;
    ScaleView view;
    const char* want;
  };
  const auto in_flight = [](ScaleView& view) { view.load.in_flight = 1; };
  const auto visited = [](Duration ago) {
    return [ago](ScaleView& view) { view.load.last_visit = t0 - ago; };
  };
  const auto heard = [](Duration ago) {
    return [ago](ScaleView& view) { view.load.heard_since = t0 - ago; };
  };
  const auto deaf = [](ScaleView& view) { view.load.heard_since.reset(); };
  const auto failing = [](int failed, int ready, int starting) {
    return [=](ScaleView& view) {
      view.fleet.failed_in_row = failed;
      view.fleet.ready = ready;
      view.fleet.starting = starting;
    };
  };
  const auto stop_after = [](Duration after) {
    return [after](ScaleView& view) { view.limits.stop_after = after; };
  };
  const auto chain = [](ScaleView view, auto... changes) {
    (changes(view), ...);
    return view;
  };
  for (const Case& c : {
           Case{"no load: the minimum", view_of(2, 25, 2), "2"},
           Case{"a peak asks for more", view_of(1, 25, 1, {{t0, 35}}), "4 again 300s"},
           Case{"at most the maximum", view_of(1, 3, 1, {{t0, 900}}), "3 again 300s"},
           Case{"a peak is kept", view_of(1, 25, 4, {{t0 - 299s, 35}}), "4 again 1s"},
           Case{"and goes", view_of(1, 25, 4, {{t0 - 300s, 35}}), "1"},
           Case{"then the next lower one holds",
                view_of(1, 25, 4, {{t0 - 300s, 35}, {t0 - 100s, 15}}), "2 again 200s"},
           Case{"lower ones that ask for as many tasks make it no sooner",
                view_of(1, 25, 4, {{t0 - 200s, 35}, {t0 - 100s, 34}, {t0, 3}}), "4 again 200s"},
           Case{"just started: what there is stays", with(view_of(1, 25, 7), heard(10s)),
                "7 again 290s"},
           Case{"but not above a lower maximum", with(view_of(1, 3, 7), heard(10s)),
                "3 again 290s"},
           Case{"a whole window was heard", with(view_of(1, 25, 7), heard(300s)), "1"},
           Case{"no edge tells: what there is stays", with(view_of(1, 25, 7), deaf), "7"},
           Case{"no edge tells, and more is wanted", with(view_of(1, 25, 1, {{t0, 35}}), deaf),
                "4 again 300s"},
           // Minimum 0.
           Case{"stopped stays stopped", view_of(0, 25, 0), "0"},
           Case{"stopped, and a visitor", with(view_of(0, 25, 0, {{t0, 1}}), in_flight),
                "1 again 300s"},
           Case{"a visitor just left", with(view_of(0, 25, 1), visited(1s)), "1 again 899s"},
           Case{"long ago", with(view_of(0, 25, 1), visited(15min)), "0"},
           Case{"a moment less", with(view_of(0, 25, 1), visited(15min - 1ms)), "1 again 0s"},
           Case{"an own time, shorter than peaks are kept",
                chain(view_of(0, 25, 3, {{t0 - 60s, 25}}), visited(60s), stop_after(60s)),
                "0 again 240s"},
           Case{"an operation has just ended",
                with(view_of(0, 25, 1), [](ScaleView& view) { view.fleet.settled_at = t0 - 10s; }),
                "1 again 890s"},
           Case{"and what visitors needed before is not needed again",
                chain(view_of(0, 25, 1, {{t0 - 70s, 35}}), visited(60s), stop_after(60s),
                      [](ScaleView& view) { view.fleet.settled_at = t0 - 10s; }),
                "1 again 50s"},
           Case{"control has just started: idle since then", chain(view_of(0, 25, 2), heard(10s)),
                "2 again 290s"},
           Case{"no edge tells: none is stopped", with(view_of(0, 25, 1), deaf), "1"},
           Case{"stopped, no edge tells", with(view_of(0, 25, 0), deaf), "0"},
           Case{"a rollout proves itself on one",
                with(view_of(0, 25, 0), [](ScaleView& view) { view.fleet.rolling_out = true; }),
                "1"},
           // Starts that fail.
           Case{"a failure halves the order", with(view_of(1, 25, 1, {{t0, 90}}), failing(1, 1, 0)),
                "5 again 300s"},
           Case{"starting ones are no order", with(view_of(1, 25, 1, {{t0, 90}}), failing(1, 1, 4)),
                "7 again 300s"},
           Case{"from the third on one at a time",
                with(view_of(1, 25, 1, {{t0, 90}}), failing(3, 1, 0)), "2 again 300s"},
           Case{"however many", with(view_of(1, 25, 1, {{t0, 90}}), failing(1'000, 0, 0)),
                "1 again 300s"},
           Case{"the minimum is cluster's to try", with(view_of(4, 25, 4), failing(9, 0, 0)), "4"},
           // t0 is a Monday, 13:46:40 UTC.
           Case{"a schedule raises the minimum",
                with(view_of(0, 25, 0),
                     [](ScaleView& view) {
                       view.limits.schedule = parse_schedule("Mon 13:00-14:00 3").value();
                     }),
                "3 again 800s"},
           Case{"not above the maximum",
                with(view_of(0, 2, 0),
                     [](ScaleView& view) {
                       view.limits.schedule = parse_schedule("Mon 13:00-14:00 3").value();
                     }),
                "2 again 800s"},
           Case{"one to come",
                with(view_of(1, 25, 1),
                     [](ScaleView& view) {
                       view.limits.schedule = parse_schedule("Mon 14:00-15:00 3").value();
                     }),
                "1 again 800s"},
       }) {
    EXPECT_EQ(show(decide_scale(c.view, t0)), c.want) << c.name;
  }
}

class RandomView {
 public:
  explicit RandomView(uint64_t seed) : random_(seed) {}
  int below(int n) { return static_cast<int>(random_() % static_cast<uint64_t>(n)); }
  ScaleView make() {
    ScaleView view;
    view.limits.min_size = below(3) == 0 ? 0 : below(6);
    view.limits.max_size = std::max(1, view.limits.min_size) + below(10);
    view.limits.max_concurrency = 1 + below(20);
    view.limits.stop_after = Duration(1000 * (1 + below(900)));
    if (below(4) == 0) view.limits.schedule = {{.count = below(8)}};
    double slots = below(200);
    for (Instant at = t0 - 310s; at <= t0 && slots > 1; at += Duration(1000 + below(90'000))) {
      view.load.peaks.push_back({at, slots});
      slots -= 1 + below(40);
    }
    view.load.in_flight = below(2) * below(30);
    if (below(3) > 0) view.load.last_visit = t0 - Duration(below(1'000'000));
    if (below(4) > 0) view.load.heard_since = t0 - Duration(below(1'000'000));
    view.fleet = {.desired = below(20),
                  .ready = below(8),
                  .starting = below(8),
                  .failed_in_row = below(3) == 0 ? below(6) : 0,
                  .rolling_out = below(5) == 0,
                  .settled_at = t0 - Duration(below(1'000'000))};
    return view;
  }

 private:
  std::mt19937_64 random_;
};

TEST(Scale, KeepsItsPromisesForAnyView) {
  RandomView random(4);
  for (int i = 0; i < 20'000; ++i) {
    const ScaleView view = random.make();
    const ScalePlan plan = decide_scale(view, t0);
    EXPECT_LE(plan.desired, view.limits.max_size) << i;
    EXPECT_GE(plan.desired, view.limits.min_size) << i;
    EXPECT_EQ(plan, decide_scale(view, t0)) << i;
    if (plan.again) EXPECT_GT(*plan.again, t0) << i;
    if (view.load.in_flight > 0) EXPECT_GE(plan.desired, 1) << i;

    ScaleView more = view;
    for (Peak& peak : more.load.peaks) peak.slots += 10;
    more.load.in_flight += 1;
    EXPECT_GE(decide_scale(more, t0).desired, plan.desired) << i;

    Work work{.demand = 0.1 * random.below(500),
              .running = random.below(100),
              .waiting = random.below(100),
              .service_time = 0.01 * random.below(500),
              .places = random.below(100)};
    const Duration start(random.below(20'000));
    const double slots = slots_needed(work, start);
    for (const auto grow : {+[](Work& w) { w.demand += 1; }, +[](Work& w) { w.running += 1; },
                            +[](Work& w) { w.waiting += 1; }}) {
      Work grown = work;
      grow(grown);
      EXPECT_GE(slots_needed(grown, start), slots) << i;
    }
  }
}

// Between two looks nothing changes unless `again` says so.
TEST(Scale, AsksToBeAskedAgainBeforeTimeAloneChangesThePlan) {
  RandomView random(5);
  for (int i = 0; i < 2'000; ++i) {
    const ScaleView view = random.make();
    const ScalePlan plan = decide_scale(view, t0);
    for (int step = 1; step <= 40; ++step) {
      const Instant later = t0 + Duration(step * 25'000);
      if (plan.again && later >= *plan.again) break;
      EXPECT_EQ(decide_scale(view, later).desired, plan.desired) << i << " at +" << step * 25;
    }
  }
}

TEST(Schedule, IsOnWhenItSays) {
  struct Case {
    const char* text;
    Duration into_week;  // since Monday 00:00 UTC
    int want;
    Duration changes_in;
  };
  constexpr Instant monday{4 * 24h};
  for (const Case& c : {
           Case{"daily 08:00-18:00 2", 7h + 59min, 0, 1min},
           Case{"daily 08:00-18:00 2", 8h, 2, 10h},
           Case{"daily 08:00-18:00 2", 18h - 1ms, 2, 1ms},
           Case{"daily 08:00-18:00 2", 18h, 0, 14h},
           Case{"Mon-Fri 08:00-18:00 2/Mon 09:00-10:00 5", 9h, 5, 1h},
           Case{"Sat-Mon 00:00-24:00 1", 23h, 1, 1h},
           Case{"Sat-Mon 00:00-24:00 1", 24h, 0, 96h},
           Case{"Sat-Mon 00:00-24:00 1", 6 * 24h + 1h, 1, 23h},
           Case{"Sun 22:00-06:00 3", 5h, 3, 1h},
           Case{"Sun 22:00-06:00 3", 6h, 0, 6 * 24h + 16h},
           Case{"Wed 12:00-12:00 4", 3 * 24h + 11h, 4, 1h},
       }) {
    const auto schedule = parse_schedule(c.text);
    ASSERT_TRUE(schedule) << c.text;
    const Instant now = monday + 52 * 7 * 24h + c.into_week;
    EXPECT_EQ(scheduled_minimum(*schedule, now), c.want) << c.text;
    EXPECT_EQ(next_schedule_change(*schedule, now), now + c.changes_in) << c.text;
  }
  EXPECT_EQ(next_schedule_change({}, t0), std::nullopt);
}

TEST(Schedule, RefusesWhatIsNone) {
  std::string many = "daily 00:00-24:00 1";
  for (size_t i = 1; i < kScheduleEntriesMax; ++i) many += " / daily 00:00-24:00 1";
  EXPECT_TRUE(parse_schedule(many));
  for (const std::string& text :
       {std::string(), std::string("Mon"), std::string("Mon 08:00-18:00"),
        std::string("Mon 8:00-18:00 2"), std::string("Mon 08:00-18:00 1001"),
        std::string("Mon 08:00-18:00 -1"), std::string("Mon 24:00-18:00 1"),
        std::string("Mon 08:00-00:00 1"), std::string("Mon 08:60-09:00 1"),
        std::string("Mon 08:00-24:01 1"), std::string("mon 08:00-18:00 1"),
        std::string("Mon-Day 08:00-18:00 1"), std::string("Mon 08:00-18:00 1/"),
        std::string("Mon 08:00-18:00 Europe/Berlin 2"), many + "/Mon 08:00-09:00 1"}) {
    const auto refused = parse_schedule(text);
    ASSERT_FALSE(refused) << text;
    EXPECT_EQ(refused.error().code, Code::kInvalid);
  }
}

}  // namespace
}  // namespace hob::runner
