#include "edge/awake_decision.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace hob::edge {
namespace {

constexpr uint64_t kNow = 1'000'000;
constexpr uint64_t kSleepAfter = 20'000;

AwakeTarget asleep() { return {.phase = Phase::kAsleep}; }
AwakeTarget unknown(uint64_t retry_in) {
  return {.phase = Phase::kAsleep, .retry_at = kNow + retry_in};
}
AwakeTarget waking(uint64_t ago = 0) { return {.phase = Phase::kWaking, .since = kNow - ago}; }
AwakeTarget awake(int in_flight, uint64_t ago = kSleepAfter) {
  return {.phase = Phase::kAwake, .in_flight = in_flight, .since = kNow - ago};
}
AwakeTarget asked_for(AwakeTarget target) {
  target.asked_for = true;
  return target;
}
AwakeTarget failing(int in_flight) {
  return {.phase = Phase::kAwake, .in_flight = in_flight, .failing = true};
}
AwakeTarget releasing(int in_flight) {
  return {.phase = Phase::kReleasing, .in_flight = in_flight, .since = kNow};
}

std::string list(const char* name, const std::vector<size_t>& numbers) {
  if (numbers.empty()) return "";
  std::string text = std::string(" ") + name;
  for (const size_t i : numbers) text += " " + std::to_string(i);
  return text + ",";
}

std::string show(const AwakeActions& actions) {
  std::string text = list("hold", actions.hold) + list("let go", actions.let_go) +
                     list("keep", actions.keep) + list("release", actions.release);
  if (actions.short_of_targets) text += " short,";
  if (actions.again) text += " again in " + std::to_string(*actions.again - kNow) + ",";
  return text.empty() ? "nothing" : text.substr(1, text.size() - 2);
}

TEST(AwakeDecision, Decides) {
  struct Case {
    const char* name;
    std::vector<AwakeTarget> targets;
    int awake_min, waiting;
    double peak;
    const char* want;
  };
  for (const Case& c : {
           Case{"no targets, nobody there", {}, 0, 0, 0, "nothing"},
           Case{"no targets, and one waits", {}, 0, 1, 0, "short"},
           Case{"nobody there, all may sleep", {asleep(), asleep()}, 0, 0, 0, "nothing"},
           Case{"one stays awake", {asleep(), asleep()}, 1, 0, 0, "hold 0"},
           Case{"none ever sleeps", {asleep(), asleep()}, -1, 0, 0, "hold 0 1"},
           Case{"a minimum above what there is", {asleep(), asleep()}, 5, 0, 0, "hold 0 1"},
           Case{"a client's own target wakes, too",
                {awake(0), asleep(), asked_for(asleep())},
                1,
                0,
                0,
                "hold 2, again in 10"},
           Case{"a request wakes one", {asleep(), asleep()}, 0, 1, 0, "hold 0, again in 1000"},
           Case{"eleven want two",
                {asleep(), asleep(), asleep()},
                0,
                11,
                0,
                "hold 0 1, again in 10"},
           Case{"a waking one is counted on", {waking(), asleep()}, 0, 5, 0, "again in 1000"},
           Case{"but not for more than it takes",
                {waking(), asleep()},
                0,
                11,
                0,
                "hold 1, again in 10"},
           Case{"a full one is no place for the next",
                {awake(10), asleep()},
                1,
                0,
                0,
                "hold 1, again in 10"},
           Case{"eight are not", {awake(8), asleep()}, 1, 0, 0, "nothing"},
           Case{"all awake and full", {awake(10), awake(10)}, 1, 3, 0, "short, again in 10"},
           Case{"a place is free: no want of targets",
                {awake(10), awake(9)},
                1,
                1,
                0,
                "again in 10"},
           Case{"a waking one is enough for who waits",
                {awake(10), waking()},
                1,
                10,
                0,
                "again in 10"},
           Case{"and then it is not", {awake(10), waking()}, 1, 11, 0, "short, again in 10"},
           Case{"what is not needed is let go",
                {awake(0), awake(3)},
                1,
                0,
                0,
                "let go 1, again in 10"},
           Case{"not while it was needed lately", {awake(0), awake(3)}, 1, 0, 11, "again in 10"},
           Case{"nor just after it woke",
                {awake(0), awake(3, kSurplusAfter - 1)},
                1,
                0,
                0,
                "again in 10"},
           Case{"nor before the one that stays is awake",
                {waking(), awake(3)},
                1,
                0,
                0,
                "again in 10"},
           Case{"the last of all", {awake(0)}, 0, 0, 0, "let go 0, again in 10"},
           Case{"its last request runs", {awake(0), releasing(1)}, 1, 0, 0, "again in 10"},
           Case{"it has ended", {awake(0), releasing(0)}, 1, 0, 0, "release 1, again in 10"},
           Case{"it is needed again after all",
                {awake(9), releasing(1)},
                1,
                0,
                0,
                "keep 1, again in 10"},
           Case{"a waking one nobody needs: its host's answer first",
                {waking(kSleepAfter)},
                0,
                0,
                0,
                "nothing"},
           Case{"its host did not know it: the next one",
                {unknown(5), asleep()},
                0,
                1,
                0,
                "hold 1, again in 1000"},
           Case{"its host did not know it: later", {unknown(5)}, 0, 1, 0, "short, again in 5"},
           Case{"now", {unknown(0)}, 0, 1, 0, "hold 0, again in 1000"},
           Case{"one that fails is no place: another wakes",
                {failing(0), asleep()},
                1,
                0,
                0,
                "hold 1, again in 10"},
           Case{"and it is kept", {failing(0), awake(0)}, 1, 0, 0, "again in 10"},
       }) {
    const AwakeActions actions = decide_awake({.targets = c.targets,
                                               .waiting = c.waiting,
                                               .max_concurrency = 10,
                                               .awake_min = c.awake_min,
                                               .sleep_after = kSleepAfter,
                                               .peak = c.peak,
                                               .recent = c.peak},
                                              kNow);
    EXPECT_EQ(show(actions), c.want) << c.name;
  }
}

TEST(AwakeDecision, SignalsJustWhereTheLoadAsksForOneMore) {
  for (const int limit : {1, 2, 7, 10, 80, 200}) {
    for (const size_t held : {1u, 2u, 5u, 20u}) {
      AwakeView view{.max_concurrency = limit,
                     .awake_min = static_cast<int>(held),
                     .sleep_after = kSleepAfter};
      view.targets.resize(held + 1);
      for (size_t i = 0; i < held; ++i) view.targets[i] = awake(0);
      const int signal = decide_awake(view, kNow).signal_at;
      ASSERT_GE(signal, 1);
      ASSERT_LE(signal, limit);
      if (signal == limit) continue;  // then it is the queue that tells
      // The least loaded has just got that many: none has fewer than one less.
      for (size_t i = 0; i < held; ++i) view.targets[i].in_flight = signal - (i > 0 ? 1 : 0);
      EXPECT_FALSE(decide_awake(view, kNow).hold.empty()) << limit << " " << held;
    }
  }
}

// Any state: of a service, in the middle of anything.
AwakeView random_view(std::mt19937& random) {
  const auto draw = [&](int most) { return std::uniform_int_distribution<int>(0, most)(random); };
  AwakeView view{.waiting = draw(1) * draw(300),
                 .max_concurrency = 1 + draw(1) * draw(200),
                 .awake_min = draw(4) - 1,
                 .sleep_after = static_cast<uint64_t>(draw(30'000)),
                 .demand = draw(1) * draw(1'000) / 10.0,
                 .peak = draw(1) * draw(1'000) / 10.0};
  const int count = draw(12);
  for (int i = 0; i < count; ++i) {
    AwakeTarget target{.phase = static_cast<Phase>(draw(3)),
                       .since = kNow - static_cast<uint64_t>(draw(60'000))};
    if (target.phase == Phase::kAwake || target.phase == Phase::kReleasing)
      target.in_flight = draw(view.max_concurrency);
    target.failing = target.phase == Phase::kAwake && draw(5) == 0;
    if (target.phase == Phase::kAsleep && draw(5) == 0) target.retry_at = kNow + 500;
    view.targets.push_back(target);
  }
  return view;
}

bool usable(const AwakeTarget& target) {
  return target.phase == Phase::kAsleep ? kNow >= target.retry_at : !target.failing;
}

void carry_out(AwakeView& view, const AwakeActions& actions, uint64_t now) {
  const auto enter = [&](const std::vector<size_t>& which, Phase phase) {
    for (const size_t i : which) {
      view.targets[i].phase = phase;
      view.targets[i].since = now;
    }
  };
  enter(actions.hold, Phase::kWaking);
  enter(actions.let_go, Phase::kReleasing);
  enter(actions.keep, Phase::kAwake);
  enter(actions.release, Phase::kAsleep);
}

TEST(AwakeDecision, HoldsItsPropertiesInAnyState) {
  std::mt19937 random(1);
  for (int run = 0; run < 20'000; ++run) {
    const AwakeView view = random_view(random);
    const AwakeActions actions = decide_awake(view, kNow);
    size_t can = 0;
    int in_flight = view.waiting;
    for (const AwakeTarget& target : view.targets) {
      can += usable(target);
      in_flight += target.in_flight;
    }
    // Never below the minimum, nor below what is in flight and waits, if so many can be used.
    const size_t least =
        view.awake_min < 0 ? view.targets.size() : static_cast<size_t>(view.awake_min);
    ASSERT_GE(actions.wanted, std::min(can, least));
    const auto needed =
        static_cast<size_t>((in_flight + view.max_concurrency - 1) / view.max_concurrency);
    ASSERT_GE(actions.wanted, std::min(can, needed));
    // Each action fits its phase, and nothing in use is released.
    for (const size_t i : actions.hold) ASSERT_EQ(view.targets[i].phase, Phase::kAsleep);
    for (const size_t i : actions.let_go) ASSERT_EQ(view.targets[i].phase, Phase::kAwake);
    for (const size_t i : actions.keep) ASSERT_EQ(view.targets[i].phase, Phase::kReleasing);
    for (const size_t i : actions.release) {
      ASSERT_NE(view.targets[i].phase, Phase::kAwake);
      ASSERT_NE(view.targets[i].phase, Phase::kAsleep);
      ASSERT_EQ(view.targets[i].in_flight, 0);
    }
    if (actions.again) ASSERT_GT(*actions.again, kNow);
    if (actions.short_of_targets) ASSERT_GT(view.waiting, 0);
    // More demand never wants fewer.
    AwakeView more = view;
    (run % 3 == 0 ? more.demand : more.peak) += run % 50;
    more.waiting += run % 7;
    ASSERT_GE(decide_awake(more, kNow).wanted, actions.wanted);
    // What was decided stays decided: nothing is undone at once.
    AwakeView after = view;
    carry_out(after, actions, kNow);
    const AwakeActions again = decide_awake(after, kNow);
    ASSERT_TRUE(again.hold.empty() && again.keep.empty()) << show(again);
    ASSERT_EQ(again.wanted, actions.wanted);
  }
}

// A service under a load, its host answering at once, looked at as often as it asks to be.
struct Life {
  AwakeView view{.max_concurrency = 10, .sleep_after = kSleepAfter};
  Peak peak;
  Peak recent;
  uint64_t now = kNow;
  int wakes = 0;
  int releases = 0;
  void step(double load, uint64_t milliseconds) {
    now += milliseconds;
    int left = static_cast<int>(load);
    for (AwakeTarget& target : view.targets) {
      target.in_flight = target.phase == Phase::kAwake ? std::min(left, 10) : 0;
      left -= target.in_flight;
    }
    view.waiting = left;
    view.demand = load;
    peak.note(load, now, view.sleep_after);
    view.peak = peak.value(now, view.sleep_after);
    recent.note(load, now, surplus_after(view.sleep_after));
    view.recent = recent.value(now, surplus_after(view.sleep_after));
    for (int look = 0; look < 3; ++look) {
      const AwakeActions actions = decide_awake(view, now);
      wakes += static_cast<int>(actions.hold.size());
      releases += static_cast<int>(actions.release.size());
      carry_out(view, actions, now);
      for (AwakeTarget& target : view.targets) {
        if (target.phase == Phase::kWaking) target.phase = Phase::kAwake;
        if (target.phase == Phase::kReleasing) target.in_flight = 0;
      }
    }
  }
  size_t held() const {
    size_t count = 0;
    for (const AwakeTarget& target : view.targets) count += target.phase != Phase::kAsleep;
    return count;
  }
};

TEST(AwakeDecision, ComesToRestUnderAConstantLoad) {
  for (const double load : {0.0, 1.0, 7.0, 35.0, 70.0}) {
    Life life;
    life.view.targets.resize(10);
    for (int i = 0; i < 5; ++i) life.view.targets[static_cast<size_t>(2 * i)] = awake(0);
    for (int i = 0; i < 25; ++i) life.step(load, 1'000);
    // And a place for the next, where those that hold it are full.
    EXPECT_EQ(life.held(), targets_for(load > 1 ? load + 1 : load, 10)) << load;
    const int wakes = life.wakes;
    const int releases = life.releases;
    for (int i = 0; i < 100; ++i) life.step(load, 1'000);
    EXPECT_EQ(life.wakes, wakes) << load;
    EXPECT_EQ(life.releases, releases) << load;
  }
}

TEST(AwakeDecision, WakesATargetOnceInASurplusSpanAtMost) {
  std::mt19937 random(2);
  Life life;
  life.view.targets.assign(10, asleep());
  while (life.now < kNow + 60 * kSleepAfter) {
    const double load = std::uniform_int_distribution<int>(0, 3)(random) == 0 ? 60 : 0;
    life.step(load, 1'000 + random() % 10'000);
  }
  EXPECT_GT(life.wakes, 10);
  EXPECT_LE(life.wakes, 60 * 10);
  // Swings that are shorter than the span wake and release nothing.
  Life swinging;
  swinging.view.targets.assign(10, asleep());
  for (int i = 0; i < 200; ++i) swinging.step(i % 2 == 0 ? 55 : 0, kSurplusAfter / 2 - 20);
  EXPECT_EQ(swinging.wakes, 6);
  EXPECT_EQ(swinging.releases, 0);
  // But the one for the next, where all are full: that comes and goes, once in a span.
  Life full;
  full.view.targets.assign(10, asleep());
  constexpr uint64_t kStep = kSurplusAfter / 2 - 20;
  for (int i = 0; i < 200; ++i) full.step(i % 2 == 0 ? 60 : 0, kStep);
  EXPECT_LE(full.wakes, 7 + static_cast<int>(200 * kStep / kSurplusAfter));
}

TEST(AwakeDecision, RemembersAPeakForItsSpanAndALittleMore) {
  for (const uint64_t span : {0u, 10u, 1'600u, 20'000u}) {
    Peak peak;
    peak.note(5, kNow, span);
    EXPECT_EQ(peak.value(kNow, span), 5);
    EXPECT_EQ(peak.value(kNow + span, span), 5) << span;
    EXPECT_EQ(peak.value(kNow + span + std::max<uint64_t>(span / kPeakSlots, 1) + 17, span), 0)
        << span;
    peak.note(3, kNow + 2 * span + 40, span);
    EXPECT_EQ(peak.value(kNow + 2 * span + 40, span), 3) << span;
  }
}

}  // namespace
}  // namespace hob::edge
