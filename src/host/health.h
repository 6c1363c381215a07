// Whether a task is healthy, from what its probes said. Pure.
//
// While a task starts it is probed often, so that a deployment does not wait for an interval;
// failures count only per interval. A task that is not healthy within unhealthy_threshold ×
// interval of its start is unhealthy.
#pragma once

#include <string>

#include "base/time.h"
#include "link/messages.h"

namespace hob::host {

inline constexpr Duration kStartProbeInterval{50};  // in the first kStartProbePhase
inline constexpr Duration kStartProbePhase{10'000};
inline constexpr Duration kStartProbeIntervalLate{
    250};  // after it, until the start has succeeded or failed

struct HealthState {
  link::Health health = link::Health::kUnknown;
  Instant starting_since{};  // the first start after it was last healthy
  Instant probed_at{};       // the last probe's end
  int successes = 0;         // in a row
  int failures = 0;          // in a row, while healthy
  std::string last_error{};  // of the last failed probe
  bool operator==(const HealthState&) const = default;
};

// A task that starts at `now`. When a healthy one has ended and starts again, its time counts from
// `now`, too; one that never came back keeps its first start, so that a loop of crashes becomes
// unhealthy.
HealthState start_health(const HealthState& before, Instant now);
// `error` empty: the probe succeeded. Ended at `now`.
HealthState after_probe(HealthState state, const link::Probe& probe, const std::string& error,
                        Instant now);
// A task that was frozen runs again: what it could not answer meanwhile does not count, and the next
// probe is an interval away, since it was woken for a request.
HealthState resume_health(HealthState state, Instant now);
// Makes it unhealthy when its start has taken too long, whether or not a probe ended.
HealthState check_start(HealthState state, const link::Probe& probe, Instant now);
// When the start counts as failed.
Instant start_deadline(const HealthState& state, const link::Probe& probe);
// When to probe next.
Instant next_probe_at(const HealthState& state, const link::Probe& probe);

}  // namespace hob::host
