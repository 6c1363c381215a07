#include "guest/health.h"

#include <gtest/gtest.h>

namespace hob::guest {
namespace {

HealthCheck check(int retries, int start_period = 0) {
  return {.command = {"true"},
          .interval_seconds = 10,
          .timeout_seconds = 5,
          .retries = retries,
          .start_period_seconds = start_period};
}

TEST(GuestHealth, ChecksComeAnIntervalApartAndAreGivenUp) {
  Health health(check(3), 1'000);
  EXPECT_EQ(health.due(), 11'000);
  EXPECT_FALSE(health.should_start(10'999));
  EXPECT_TRUE(health.should_start(11'000));
  health.started(11'500);
  EXPECT_FALSE(health.should_start(20'000));
  EXPECT_EQ(health.due(), 16'500);
  EXPECT_FALSE(health.should_give_up(16'499));
  EXPECT_TRUE(health.should_give_up(16'500));
  health.ended(false, 16'500);
  EXPECT_EQ(health.due(), 26'500);
  EXPECT_FALSE(Health().due());
}

TEST(GuestHealth, AVerdictIsToldWhenItChanges) {
  Health health(check(2), 0);
  EXPECT_EQ(health.ended(false, 10'000), std::nullopt);
  EXPECT_EQ(health.ended(true, 20'000), Event::kHealthy);
  EXPECT_EQ(health.ended(true, 30'000), std::nullopt);
  EXPECT_EQ(health.ended(false, 40'000), std::nullopt);
  EXPECT_EQ(health.ended(false, 50'000), Event::kUnhealthy);
  EXPECT_EQ(health.ended(false, 60'000), std::nullopt);
  EXPECT_EQ(health.ended(true, 70'000), Event::kHealthy);
}

TEST(GuestHealth, FailuresBeforeTheStartPeriodsEndDoNotCount) {
  Health health(check(1, 30), 0);
  EXPECT_EQ(health.ended(false, 10'000), std::nullopt);
  EXPECT_EQ(health.ended(false, 29'999), std::nullopt);
  EXPECT_EQ(health.ended(false, 30'000), Event::kUnhealthy);
  Health well(check(1, 30), 0);
  EXPECT_EQ(well.ended(true, 10'000), Event::kHealthy);
  EXPECT_EQ(well.ended(false, 20'000), Event::kUnhealthy) << "it had been well";
}

}  // namespace
}  // namespace hob::guest
