#include "host/health.h"

#include <algorithm>

namespace hob::host {

using link::Health;

HealthState start_health(const HealthState& before, Instant now) {
  HealthState state;
  const bool came_back_before =
      before.health == Health::kHealthy || before.starting_since == Instant{};
  state.starting_since = came_back_before ? now : before.starting_since;
  if (before.health == Health::kUnhealthy) state.health = Health::kUnhealthy;
  state.probed_at = Instant{};  // at once
  return state;
}

Instant start_deadline(const HealthState& state, const link::Probe& probe) {
  return state.starting_since + probe.interval * std::max(probe.unhealthy_threshold, 1);
}

HealthState check_start(HealthState state, const link::Probe& probe, Instant now) {
  if (state.health == Health::kUnknown && now >= start_deadline(state, probe))
    state.health = Health::kUnhealthy;
  return state;
}

HealthState after_probe(HealthState state, const link::Probe& probe, const std::string& error,
                        Instant now) {
  state.probed_at = now;
  if (error.empty()) {
    state.failures = 0;
    ++state.successes;
    state.last_error.clear();
    if (state.successes >= probe.healthy_threshold) state.health = Health::kHealthy;
    return state;
  }
  state.successes = 0;
  state.last_error = error;
  if (state.health == Health::kHealthy) {
    ++state.failures;
    if (state.failures >= probe.unhealthy_threshold) state.health = Health::kUnhealthy;
    return state;
  }
  return check_start(std::move(state), probe, now);
}

HealthState resume_health(HealthState state, Instant now) {
  state.probed_at = state.health == Health::kHealthy ? now : Instant{};
  return state;
}

Instant next_probe_at(const HealthState& state, const link::Probe& probe) {
  if (state.health != Health::kUnknown) return state.probed_at + probe.interval;
  const Duration wanted = state.probed_at - state.starting_since < kStartProbePhase
                              ? kStartProbeInterval
                              : kStartProbeIntervalLate;
  return state.probed_at + std::min(wanted, probe.interval);
}

}  // namespace hob::host
