#include "host/restart.h"

#include <algorithm>
#include <ranges>

namespace hob::host {

std::optional<RestartAction> decide_restart(const RestartView& view, Instant now) {
  if (view.runs.empty()) return StartAgain{};
  if (!view.runs.back().stopped_at) return std::nullopt;

  Duration delay{0};
  for (const TaskRun& run : view.runs | std::views::reverse) {
    // Runs come from our disk, so one without an end is no bug of ours: it counts as a failure.
    if (run.stopped_at && *run.stopped_at - run.started_at >= kStableAfter)
      break;  // forgives all before it
    delay = std::clamp(2 * delay, kRestartDelayMin, kRestartDelayMax);
    if (delay == kRestartDelayMax) break;
  }
  // The clock may have been set back: a stop that seems to lie ahead happened now.
  const Instant retry_at = std::min(*view.runs.back().stopped_at, now) + delay;
  if (now < retry_at) return StartAt{retry_at};
  return StartAgain{};
}

}  // namespace hob::host
