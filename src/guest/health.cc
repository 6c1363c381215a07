#include "guest/health.h"

#include <algorithm>

namespace hob::guest {
namespace {

int64_t milliseconds(int seconds) { return int64_t{seconds} * 1'000; }

}  // namespace

Health::Health(const HealthCheck& check, int64_t started_at)
    : check_(check),
      checked_(true),
      started_at_(started_at),
      next_(started_at + milliseconds(std::max(1, check.interval_seconds))) {}

std::optional<int64_t> Health::due() const {
  if (!checked_) return std::nullopt;
  return running_ ? deadline_ : next_;
}

void Health::started(int64_t now) {
  running_ = true;
  deadline_ = now + milliseconds(std::max(1, check_.timeout_seconds));
}

std::optional<Event> Health::ended(bool well, int64_t now) {
  running_ = false;
  next_ = now + milliseconds(std::max(1, check_.interval_seconds));
  std::optional<Event> verdict = verdict_;
  if (well) {
    failures_ = 0;
    verdict = Event::kHealthy;
  } else if (verdict_ || now >= started_at_ + milliseconds(check_.start_period_seconds)) {
    // The start period ends with the first success, too.
    if (++failures_ >= std::max(1, check_.retries)) verdict = Event::kUnhealthy;
  }
  if (verdict == verdict_) return std::nullopt;
  verdict_ = verdict;
  return verdict;
}

}  // namespace hob::guest
