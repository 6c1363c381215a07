// Restart back-off: when may a container that exited be started again?
//
// Asked for tasks that were healthy once (docs/decisions/who-restarts.md). Pure: any thread may
// call it. A run shorter than kStableAfter is a failure; each failure in a row doubles the wait.
#pragma once

#include <chrono>
#include <optional>
#include <variant>
#include <vector>

#include "base/time.h"

namespace hob::host {

inline constexpr Duration kStableAfter = std::chrono::seconds(60);
inline constexpr Duration kRestartDelayMin = std::chrono::seconds(1);
inline constexpr Duration kRestartDelayMax = std::chrono::minutes(5);

struct TaskRun {
  Instant started_at{};
  std::optional<Instant> stopped_at{};  // nullopt: still running
  bool operator==(const TaskRun&) const = default;
};

struct RestartView {
  std::vector<TaskRun> runs{};  // of one task, oldest first; only the last may be running
};

struct StartAgain {};
struct StartAt {  // always later than the `now` it was decided at
  Instant at{};
};
using RestartAction = std::variant<StartAgain, StartAt>;

// nullopt: it is running, there is nothing to do.
std::optional<RestartAction> decide_restart(const RestartView& view, Instant now);

}  // namespace hob::host
