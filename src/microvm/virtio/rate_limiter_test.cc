#include "microvm/virtio/rate_limiter.h"

#include <gtest/gtest.h>

namespace hob::microvm {
namespace {

using namespace std::chrono_literals;
constexpr MonotonicTime t0{1000s};

TEST(RateLimiter, ABucketLetsThroughWhatItHolds) {
  TokenBucket bucket({.size = 10, .burst = 5, .refill_ms = 1000}, t0);
  for (int i = 0; i < 15; ++i) {
    EXPECT_FALSE(bucket.empty_until(t0)) << i;
    bucket.charge(1);
  }
  EXPECT_EQ(bucket.empty_until(t0), t0 + 100ms);
  EXPECT_EQ(bucket.empty_until(t0 + 99ms), t0 + 100ms);
  EXPECT_FALSE(bucket.empty_until(t0 + 100ms));
  bucket.charge(1);
  // Full again, and no fuller; the burst is gone.
  EXPECT_FALSE(bucket.empty_until(t0 + 1h));
  bucket.charge(10);
  EXPECT_EQ(bucket.empty_until(t0 + 1h), t0 + 1h + 100ms);
}

TEST(RateLimiter, WhatIsLargerThanTheBucketPassesAndIsWaitedFor) {
  TokenBucket bucket({.size = 10, .burst = 0, .refill_ms = 1000}, t0);
  bucket.charge(30);
  EXPECT_EQ(bucket.empty_until(t0), t0 + 2100ms);
  EXPECT_FALSE(bucket.empty_until(t0 + 2100ms));
}

TEST(RateLimiter, TheRateIsExactHoweverOftenItIsAsked) {
  TokenBucket bucket({.size = 7, .burst = 0, .refill_ms = 1000}, t0);
  bucket.charge(7);
  int passed = 0;
  for (auto now = t0; now <= t0 + 10s; now += 1ms) {
    if (bucket.empty_until(now)) continue;
    bucket.charge(1);
    ++passed;
  }
  EXPECT_EQ(passed, 70);
}

TEST(RateLimiter, NoSizeOrNoTimeIsNoLimit) {
  for (const TokenBucketOptions& options : std::initializer_list<TokenBucketOptions>{
           {.size = 0, .burst = 9, .refill_ms = 1000},
           {.size = 9, .burst = 0, .refill_ms = 0},
           {.size = 9, .burst = 0, .refill_ms = UINT64_MAX}}) {
    TokenBucket bucket(options, t0);
    bucket.charge(UINT64_MAX);
    EXPECT_FALSE(bucket.empty_until(t0));
    EXPECT_FALSE(bucket.options());
  }
}

TEST(RateLimiter, TheLargestNumbersDoNotWrap) {
  TokenBucket bucket({.size = UINT64_MAX, .burst = UINT64_MAX, .refill_ms = UINT64_MAX / 1000000},
                     t0);
  bucket.charge(UINT64_MAX);
  bucket.charge(UINT64_MAX);
  bucket.charge(UINT64_MAX);
  EXPECT_GT(bucket.empty_until(t0 + 1h), t0 + 1h);
}

TEST(RateLimiter, BothBucketsMustHoldSomething) {
  RateLimiter limiter({.bandwidth = TokenBucketOptions{.size = 100, .burst = 0, .refill_ms = 1000},
                       .operations = TokenBucketOptions{.size = 2, .burst = 0, .refill_ms = 1000}},
                      t0);
  limiter.charge(10);
  EXPECT_FALSE(limiter.closed_until(t0));
  limiter.charge(10);
  EXPECT_EQ(limiter.closed_until(t0), t0 + 500ms);
  // The bucket that is not given stays as it was.
  limiter.update({.bandwidth = {}, .operations = TokenBucketOptions{}}, t0);
  EXPECT_FALSE(limiter.closed_until(t0));
  limiter.charge(80);
  EXPECT_EQ(limiter.closed_until(t0), t0 + 10ms);
  EXPECT_FALSE(limiter.options().operations);
  EXPECT_EQ(limiter.options().bandwidth->size, 100u);
}

TEST(RateLimiter, ARestoredOneGoesOnWhereItWas) {
  const RateLimiterOptions options{
      .bandwidth = TokenBucketOptions{.size = 100, .burst = 50, .refill_ms = 1000}};
  RateLimiter limiter(options, t0);
  limiter.charge(150);
  RateLimiter other(options, t0 + 1h);
  other.restore(limiter.state(), t0 + 1h);
  EXPECT_EQ(other.closed_until(t0 + 1h), t0 + 1h + 10ms);
}

}  // namespace
}  // namespace hob::microvm
