#include "host/health.h"

#include <gtest/gtest.h>

namespace hob::host {
namespace {

using namespace std::chrono_literals;
using link::Health;

constexpr Instant t0{1'000'000s};
const link::Probe kProbe{.interval = 5s, .healthy_threshold = 1, .unhealthy_threshold = 5};

HealthState started() { return start_health({}, t0); }
HealthState failed(HealthState state, Duration at) {
  return after_probe(std::move(state), kProbe, "refused", t0 + at);
}
HealthState passed(HealthState state, Duration at) {
  return after_probe(std::move(state), kProbe, "", t0 + at);
}

TEST(Health, IsKnownAtTheFirstSuccess) {
  HealthState state = failed(started(), 50ms);
  EXPECT_EQ(state.health, Health::kUnknown);
  state = passed(state, 100ms);
  EXPECT_EQ(state.health, Health::kHealthy);
  EXPECT_EQ(state.last_error, "");
}

TEST(Health, ManyQuickFailuresAreNotMany) {
  HealthState state = started();
  for (int i = 1; i <= 400; ++i) state = failed(state, i * 50ms);
  EXPECT_EQ(state.health, Health::kUnknown);
  EXPECT_EQ(failed(state, 25s - 1ms).health, Health::kUnknown);
  EXPECT_EQ(failed(state, 25s).health, Health::kUnhealthy);
  EXPECT_EQ(failed(state, 25s).last_error, "refused");
}

TEST(Health, AStartTakesTooLongWithoutAProbeToo) {
  EXPECT_EQ(check_start(started(), kProbe, t0 + 25s - 1ms).health, Health::kUnknown);
  EXPECT_EQ(check_start(started(), kProbe, t0 + 25s).health, Health::kUnhealthy);
}

TEST(Health, AHealthyOneFailsByThreshold) {
  HealthState state = passed(started(), 1s);
  for (int i = 0; i < 4; ++i) state = failed(state, 60s + i * 5s);
  EXPECT_EQ(state.health, Health::kHealthy);
  EXPECT_EQ(passed(state, 80s).failures, 0);
  state = failed(state, 80s);
  EXPECT_EQ(state.health, Health::kUnhealthy);
  EXPECT_EQ(passed(state, 85s).health, Health::kHealthy);
}

TEST(Health, SuccessesCountInARow) {
  link::Probe two = kProbe;
  two.healthy_threshold = 2;
  HealthState state = after_probe(started(), two, "", t0 + 1s);
  EXPECT_EQ(state.health, Health::kUnknown);
  EXPECT_EQ(after_probe(after_probe(state, two, "x", t0 + 2s), two, "", t0 + 3s).health,
            Health::kUnknown);
  EXPECT_EQ(after_probe(state, two, "", t0 + 2s).health, Health::kHealthy);
}

TEST(Health, ALoopOfCrashesBecomesUnhealthy) {
  HealthState state = start_health(started(), t0 + 10s);
  EXPECT_EQ(state.starting_since, t0);
  EXPECT_EQ(check_start(state, kProbe, t0 + 25s).health, Health::kUnhealthy);
  // A healthy one that starts anew has the whole time again.
  state = start_health(passed(started(), 1s), t0 + 100s);
  EXPECT_EQ(state.starting_since, t0 + 100s);
  EXPECT_EQ(state.health, Health::kUnknown);
}

TEST(Health, IsProbedOftenAtFirst) {
  EXPECT_LE(next_probe_at(started(), kProbe), t0);
  EXPECT_EQ(next_probe_at(failed(started(), 1s), kProbe), t0 + 1s + kStartProbeInterval);
  EXPECT_EQ(next_probe_at(failed(started(), 10s), kProbe), t0 + 10s + kStartProbeIntervalLate);
  EXPECT_EQ(next_probe_at(failed(started(), 25s), kProbe), t0 + 30s);
  EXPECT_EQ(next_probe_at(passed(started(), 1s), kProbe), t0 + 6s);
  link::Probe quick = kProbe;
  quick.interval = 10ms;
  EXPECT_EQ(next_probe_at(failed(started(), 1ms), quick), t0 + 11ms);
}

}  // namespace
}  // namespace hob::host
