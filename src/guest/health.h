// When a container's health check runs, and what its results mean: ECS's HealthCheck. Pure; times
// are milliseconds of one clock.
#pragma once

#include <cstdint>
#include <optional>

#include "guest/protocol.h"

namespace hob::guest {

class Health {
 public:
  Health() = default;
  // `started_at`: when the container was started. The first check comes an interval later.
  Health(const HealthCheck& check, int64_t started_at);

  // When to look again: for a check to start, or for one that runs to be given up. nullopt: never.
  std::optional<int64_t> due() const;
  bool should_start(int64_t now) const { return checked_ && !running_ && now >= next_; }
  bool should_give_up(int64_t now) const { return running_ && now >= deadline_; }
  void started(int64_t now);
  // A check has ended. A new verdict: kHealthy, kUnhealthy. A failure within the start period does
  // not count.
  std::optional<Event> ended(bool well, int64_t now);

 private:
  HealthCheck check_{};
  bool checked_ = false;
  bool running_ = false;
  int64_t started_at_ = 0, next_ = 0, deadline_ = 0;
  int failures_ = 0;
  std::optional<Event> verdict_{};
};

}  // namespace hob::guest
