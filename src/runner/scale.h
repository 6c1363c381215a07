// How many tasks of a service there should be: the slow of the two loops of
// docs/decisions/sleep.md. Which of them are awake, edges and hosts decide among themselves.
//
// Pure (no clock, no I/O, no state). The rule is ours, within App Runner's limits (minimum and
// maximum size, requests a task takes at once): capacity follows the work that is offered (arrivals
// times service time), not the requests in flight, since a queue would order what only makes it
// shorter for a moment; what was needed in the last kKeep is kept, because it costs memory alone
// while it sleeps. scaler.h makes the view from edges' reports.
#pragma once

#include <optional>
#include <vector>

#include "base/time.h"
#include "runner/schedule.h"

namespace hob::runner {

inline constexpr Duration kKeep{300'000};           // what was needed stays provisioned so long
// A queue shall be gone so long after the tasks ordered for it are ready, or in this share of a
// start: whoever waited for the start waits little longer, and fewer are ordered for it.
inline constexpr Duration kDrainPatience{500};
inline constexpr double kDrainShareOfStart = 16;
inline constexpr double kServiceTimeGuess = 0.25;   // seconds, before any request was served
inline constexpr Duration kStopAfter{15 * 60'000};  // minimum size 0: the last task goes after it
// Starts that failed in a row: each halves what is ordered next; from here on one is tried at a
// time, cluster waits longer and longer between them, and the service's events say so.
inline constexpr int kStartFailuresMax = 3;

// What is asked of a service at one moment, over all edges.
struct Work {
  double demand = 0;        // requests at once: arrivals a second times service time
  int running = 0;          // requests that tasks hold
  int waiting = 0;          // requests in the edges' queues
  double service_time = 0;  // seconds, without queueing; 0: not known yet
  int places = 0;           // that ready tasks have, awake or asleep
};

// Room for so many requests at once is wanted: the demand and its square root, so that the spare
// grows as chance does (square-root staffing), but none for requests one after the other; the queue
// as it will be when a task that starts now is ready, as far as that can help it; never less than
// what is held, and more than that while anything waits. Where tasks hold requests and none has
// ended yet, App Runner's rule: what is in flight.
double slots_needed(const Work& work, Duration start_time);
// Tasks for so many slots, when a task takes `max_concurrency`.
int tasks_for(double slots, int max_concurrency);

// The most slots that were needed since `at`, and not more since.
struct Peak {
  Instant at{};
  double slots = 0;
};

struct ScaleLimits {
  int min_size = 1;  // 0: it may be stopped
  int max_size = 25;
  int max_concurrency = 100;
  Schedule schedule{};  // raises min_size, at most to max_size
  Duration stop_after = kStopAfter;
};

struct Load {
  std::vector<Peak> peaks{};  // oldest first, each lower than the one before
  int in_flight = 0;          // now, waiting ones among them
  std::optional<Instant> last_visit{};
  // Since when edges have told without a gap; nullopt: nobody does. Nothing is scaled in by what
  // nobody could have told.
  std::optional<Instant> heard_since{};
};

struct Fleet {
  int desired = 0;           // as ordered before
  int ready = 0;             // healthy
  int starting = 0;          // ordered, and capacity as good as ready: it is not ordered twice
  int failed_in_row = 0;     // starts, since the last that became healthy
  bool rolling_out = false;  // a deployment proves itself on one task at least
  Instant settled_at{};      // the service's last operation ended: it is not idle for longer
};

struct ScaleView {
  ScaleLimits limits{};
  Load load{};
  Fleet fleet{};
};

struct ScalePlan {
  int desired = 0;  // min_size..max_size, or 0 where min_size is
  std::optional<Instant>
      again{};  // when time alone may change it; later than the `now` of the plan
  bool operator==(const ScalePlan&) const = default;
};

ScalePlan decide_scale(const ScaleView& view, Instant now);

}  // namespace hob::runner
