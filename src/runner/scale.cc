#include "runner/scale.h"

#include <algorithm>
#include <cmath>

namespace hob::runner {

namespace {

// More than any service may have; keeps a mad report from overflowing an int.
constexpr double kSlotsMax = 1e6;

// A share of a second more than one is how a single client's requests are measured.
constexpr double kOneAtOnce = 1.25;

double with_spare(double demand) {
  if (demand <= kOneAtOnce) return std::min(demand, 1.0);
  return demand + std::sqrt(demand - 1);
}

class Planning {
 public:
  Planning(const ScaleView& view, Instant now)
      : limits_(view.limits), load_(view.load), fleet_(view.fleet), now_(now) {}

  ScalePlan run() {
    max_ = std::max(1, limits_.max_size);
    min_ =
        std::clamp(std::max(limits_.min_size, scheduled_minimum(limits_.schedule, now_)), 0, max_);
    look_at(next_schedule_change(limits_.schedule, now_));
    plan_.desired = std::clamp(needed(), min_, max_);
    bool stops = false;
    if (min_ == 0) stops = !kept_for_visitors();
    if (fleet_.rolling_out) plan_.desired = std::max(plan_.desired, 1);
    if (!stops) keep_what_nobody_could_tell();
    bound_failing_starts();
    return plan_;
  }

 private:
  void look_at(std::optional<Instant> at) {
    if (at && *at > now_ && (!plan_.again || *at < *plan_.again)) plan_.again = at;
  }

  // Tasks for the highest peak of the last kKeep; looks again when a lower one decides.
  int needed() {
    int tasks = 0;
    std::optional<Instant> until;
    for (const Peak& peak : load_.peaks) {
      if (now_ - peak.at >= kKeep) continue;
      const int here = tasks_for(peak.slots, limits_.max_concurrency);
      if (!until) {
        tasks = here;
      } else if (here < tasks) {
        break;
      }
      until = peak.at + kKeep;
    }
    look_at(until);
    return tasks;
  }

  // Where the minimum is 0: whether any task is to stay.
  bool kept_for_visitors() {
    if (load_.in_flight > 0) {
      plan_.desired = std::max(plan_.desired, 1);
      return true;
    }
    const bool visited = load_.last_visit && now_ - *load_.last_visit < limits_.stop_after;
    if (fleet_.desired == 0 && !visited) {
      plan_.desired = 0;
      return false;
    }
    if (visited) look_at(*load_.last_visit + limits_.stop_after);
    if (!load_.heard_since) return true;
    const Instant unvisited_since =
        std::max(*load_.heard_since, load_.last_visit.value_or(*load_.heard_since));
    const Instant idle_since = std::max(unvisited_since, fleet_.settled_at);
    if (now_ - idle_since >= limits_.stop_after) {
      plan_.desired = 0;
      return false;
    }
    // Peaks of visitors who left so long ago do not come back because an operation has ended.
    const bool only_settling = now_ - unvisited_since >= limits_.stop_after;
    plan_.desired = only_settling ? 1 : std::max(plan_.desired, 1);
    look_at(unvisited_since + limits_.stop_after);
    look_at(idle_since + limits_.stop_after);
    return true;
  }

  // Control has just started, or its edges are away: what there is may be needed.
  void keep_what_nobody_could_tell() {
    const bool heard_enough = load_.heard_since && now_ - *load_.heard_since >= kKeep;
    if (heard_enough || plan_.desired >= fleet_.desired) return;
    plan_.desired = std::max(plan_.desired, std::min(max_, fleet_.desired));
    if (load_.heard_since) look_at(*load_.heard_since + kKeep);
  }

  void bound_failing_starts() {
    if (fleet_.failed_in_row <= 0 || fleet_.rolling_out) return;
    const int capacity = fleet_.ready + fleet_.starting;
    const int order = plan_.desired - capacity;
    if (order <= 1) return;
    const int bounded =
        fleet_.failed_in_row >= kStartFailuresMax ? 1 : std::max(1, order >> fleet_.failed_in_row);
    plan_.desired = std::max(min_, capacity + bounded);
  }

  const ScaleLimits& limits_;
  const Load& load_;
  const Fleet& fleet_;
  const Instant now_;
  int max_ = 1;
  int min_ = 0;
  ScalePlan plan_{};
};

}  // namespace

double slots_needed(const Work& work, Duration start_time) {
  const double in_flight = work.running + work.waiting;
  if (in_flight <= 0 && work.demand <= 0) return 0;
  const double service_time = work.service_time > 0 ? work.service_time : kServiceTimeGuess;
  const double start = std::chrono::duration<double>(start_time).count();
  const double patience = std::max(std::chrono::duration<double>(kDrainPatience).count(),
                                   start / kDrainShareOfStart);
  // What will wait when a task that starts now is ready; nobody does where there is a place for all.
  const double left_over =
      work.waiting > 0 ? std::max(0.0, work.demand - work.places) / service_time * start : 0;
  const double drain = (work.waiting + left_over) * std::min(1.0, service_time / patience);
  // Where tasks hold requests and none has ended yet, they may be long: a place for each.
  const bool may_be_long = work.service_time <= 0 && work.running > 0;
  const double held = may_be_long ? in_flight : work.running + (work.waiting > 0 ? 1 : 0);
  return std::min(std::max(with_spare(work.demand) + drain, held), kSlotsMax);
}

int tasks_for(double slots, int max_concurrency) {
  if (slots <= 0) return 0;
  return static_cast<int>(
      std::ceil(std::min(slots, kSlotsMax) / static_cast<double>(std::max(1, max_concurrency))));
}

ScalePlan decide_scale(const ScaleView& view, Instant now) { return Planning(view, now).run(); }

}  // namespace hob::runner
