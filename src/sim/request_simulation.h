// Plays a trace to instances that a policy orders: one ideal queue, first come first served, each
// request to an instance that is awake and has a place. For Hob the edge's part is played by its
// own decide_awake(). Pure.
#pragma once

#include <vector>

#include "sim/policies.h"
#include "sim/traffic.h"

namespace hob::sim {

struct Sample {
  double at = 0;
  int desired = 0;
  int ready = 0;  // awake or asleep
  int asleep = 0;
  int waiting = 0;
  double longest_wait = 0;   // seconds, of requests served in the second before
  double awake_seconds = 0;  // so far
};

struct Outcome {
  double awake_seconds = 0;  // of instances: from ordered to asleep or stopped
  double asleep_gb_seconds = 0;
  long starts = 0;
  long wakes = 0;      // of frozen ones
  long reversals = 0;  // orders of more after fewer, or of fewer after more
  double p99 = 0;      // seconds that requests waited for an instance
  double p999 = 0;
  double longest = 0;
  double late = 0;                // share that waited for more than kLate
  int most = 0;                   // instances at once
  std::vector<Sample> samples{};  // one a second
};

inline constexpr double kLate = 0.010;

Outcome simulate(const Trace& trace, const SimSettings& settings, Policy& policy);

}  // namespace hob::sim
