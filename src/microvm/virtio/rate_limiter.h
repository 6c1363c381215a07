// Token buckets, as Firecracker's API has them: how many bytes, and how many operations, a device
// does in a time.
//
// An operation is let through while both buckets hold something, and pays afterwards: so one that
// is larger than a bucket passes, and what it took too much is waited for. Over time the rate is
// exact; at once it is exceeded by less than one operation. Pure; not for several threads at once.
#pragma once

#include <boost/describe.hpp>
#include <cstdint>
#include <optional>

#include "microvm/devices/timer.h"

namespace hob::microvm {

struct TokenBucketOptions {
  uint64_t size = 0;       // tokens at most, and at first; 0: no limit
  uint64_t burst = 0;      // more at first, which do not come back
  uint64_t refill_ms = 0;  // in which an empty one fills; 0: no limit
};
BOOST_DESCRIBE_STRUCT(TokenBucketOptions, (), (size, burst, refill_ms))

class TokenBucket {
 public:
  TokenBucket() = default;  // no limit
  TokenBucket(const TokenBucketOptions& options, MonotonicTime now);

  bool limits() const { return refill_ > std::chrono::nanoseconds(0); }
  // nullopt: something is there. Otherwise when it will be.
  std::optional<MonotonicTime> empty_until(MonotonicTime now);
  void charge(uint64_t tokens);
  // As the API shows it; nullopt: no limit.
  std::optional<TokenBucketOptions> options() const;

  struct State {  // what a snapshot keeps besides the options
    int64_t budget = 0;
    uint64_t burst = 0;
    BOOST_DESCRIBE_CLASS(State, (), (budget, burst), (), ())
  };
  State state() const { return {.budget = budget_, .burst = burst_}; }
  void restore(const State& state, MonotonicTime now);

 private:
  void refill(MonotonicTime now);
  TokenBucketOptions options_;
  std::chrono::nanoseconds refill_{0};
  int64_t size_ = 0;
  int64_t budget_ = 0;  // less than 0: owed
  uint64_t burst_ = 0;
  MonotonicTime filled_at_;
};

struct RateLimiterOptions {
  std::optional<TokenBucketOptions> bandwidth{};  // tokens are bytes
  std::optional<TokenBucketOptions> operations{};
};
BOOST_DESCRIBE_STRUCT(RateLimiterOptions, (), (bandwidth, operations))

class RateLimiter {
 public:
  RateLimiter() = default;
  RateLimiter(const RateLimiterOptions& options, MonotonicTime now) { update(options, now); }

  // nullopt: the next operation may be done. Otherwise from when on.
  std::optional<MonotonicTime> closed_until(MonotonicTime now);
  void charge(uint64_t bytes) {
    bandwidth_.charge(bytes);
    operations_.charge(1);
  }
  // Replaces the buckets that are given, full; one without a limit takes the limit away.
  void update(const RateLimiterOptions& options, MonotonicTime now);
  RateLimiterOptions options() const {
    return {.bandwidth = bandwidth_.options(), .operations = operations_.options()};
  }

  struct State {
    TokenBucket::State bandwidth{};
    TokenBucket::State operations{};
    BOOST_DESCRIBE_CLASS(State, (), (bandwidth, operations), (), ())
  };
  State state() const {
    return {.bandwidth = bandwidth_.state(), .operations = operations_.state()};
  }
  void restore(const State& state, MonotonicTime now) {
    bandwidth_.restore(state.bandwidth, now);
    operations_.restore(state.operations, now);
  }

 private:
  TokenBucket bandwidth_;
  TokenBucket operations_;
};

// The clock of a device's limiters, and what wakes it when one of them lets something through
// again.
class LimitTimer {
 public:
  static Result<LimitTimer> create(MonotonicClock clock);

  int fd() const { return timer_.fd(); }
  MonotonicTime now() const { return clock_(); }
  // True: the next operation has to wait; the timer is armed for it.
  bool holds_back(RateLimiter& limiter);
  // The timer's descriptor became readable.
  void fired() { armed_for_.reset(); }
  // Makes it readable at once: limits have changed.
  void wake();

 private:
  explicit LimitTimer(MonotonicClock clock) : clock_(clock) {}
  MonotonicClock clock_;
  Timer timer_;
  std::optional<MonotonicTime> armed_for_;
};

}  // namespace hob::microvm
