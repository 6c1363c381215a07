#include "microvm/virtio/rate_limiter.h"

#include <algorithm>

namespace hob::microvm {
namespace {

using std::chrono::nanoseconds;
// Products of a size and a time in nanoseconds.
using Wide = unsigned __int128;
constexpr uint64_t kNanosecondsPerMs = 1'000'000;
constexpr nanoseconds kWaitMax = std::chrono::hours(24 * 365);

}  // namespace

TokenBucket::TokenBucket(const TokenBucketOptions& options, MonotonicTime now) {
  // A time that is no number of nanoseconds is none, as in Firecracker.
  if (options.size == 0 || options.refill_ms == 0 ||
      options.refill_ms > UINT64_MAX / kNanosecondsPerMs)
    return;
  options_ = options;
  refill_ = nanoseconds(std::min<uint64_t>(options.refill_ms * kNanosecondsPerMs, INT64_MAX));
  size_ = static_cast<int64_t>(std::min<uint64_t>(options.size, INT64_MAX));
  budget_ = size_;
  burst_ = options.burst;
  filled_at_ = now;
}

void TokenBucket::refill(MonotonicTime now) {
  if (now <= filled_at_) return;
  const auto elapsed = static_cast<Wide>((now - filled_at_).count());
  const Wide gained = elapsed * static_cast<Wide>(size_) / static_cast<Wide>(refill_.count());
  if (gained == 0) return;
  const Wide room = static_cast<Wide>(static_cast<__int128>(size_) - budget_);
  if (gained >= room) {
    budget_ = size_;
    filled_at_ = now;
    return;
  }
  budget_ += static_cast<int64_t>(gained);
  // Only the time that whole tokens took has been used up.
  filled_at_ += nanoseconds(
      static_cast<int64_t>(gained * static_cast<Wide>(refill_.count()) / static_cast<Wide>(size_)));
}

std::optional<MonotonicTime> TokenBucket::empty_until(MonotonicTime now) {
  if (!limits() || burst_ > 0) return std::nullopt;
  refill(now);
  if (budget_ > 0) return std::nullopt;
  const Wide wanted = static_cast<Wide>(1 - static_cast<__int128>(budget_));
  const auto size = static_cast<Wide>(size_);
  const Wide wait = (wanted * static_cast<Wide>(refill_.count()) + size - 1) / size;
  return filled_at_ +
         nanoseconds(static_cast<int64_t>(std::min(wait, static_cast<Wide>(kWaitMax.count()))));
}

void TokenBucket::charge(uint64_t tokens) {
  if (!limits()) return;
  const uint64_t of_burst = std::min(tokens, burst_);
  burst_ -= of_burst;
  tokens -= of_burst;
  const __int128 left = static_cast<__int128>(budget_) - tokens;
  budget_ = static_cast<int64_t>(std::max<__int128>(left, INT64_MIN));
}

std::optional<TokenBucketOptions> TokenBucket::options() const {
  if (!limits()) return std::nullopt;
  return options_;
}

void TokenBucket::restore(const State& state, MonotonicTime now) {
  budget_ = std::min(state.budget, size_);
  burst_ = std::min(state.burst, options_.burst);
  filled_at_ = now;
}

std::optional<MonotonicTime> RateLimiter::closed_until(MonotonicTime now) {
  const std::optional<MonotonicTime> bandwidth = bandwidth_.empty_until(now);
  const std::optional<MonotonicTime> operations = operations_.empty_until(now);
  if (!bandwidth || !operations) return bandwidth ? bandwidth : operations;
  return std::max(*bandwidth, *operations);
}

Result<LimitTimer> LimitTimer::create(MonotonicClock clock) {
  LimitTimer timer(clock);
  HOB_TRY(timer.timer_, Timer::create());
  return timer;
}

bool LimitTimer::holds_back(RateLimiter& limiter) {
  const std::optional<MonotonicTime> until = limiter.closed_until(now());
  if (!until) return false;
  if (!armed_for_ || *until < *armed_for_) {
    armed_for_ = until;
    timer_.arm(*until);
  }
  return true;
}

void LimitTimer::wake() {
  armed_for_ = MonotonicTime();
  timer_.arm(*armed_for_);
}

void RateLimiter::update(const RateLimiterOptions& options, MonotonicTime now) {
  if (options.bandwidth) bandwidth_ = TokenBucket(*options.bandwidth, now);
  if (options.operations) operations_ = TokenBucket(*options.operations, now);
}

}  // namespace hob::microvm
