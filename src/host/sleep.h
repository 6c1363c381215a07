// When a task sleeps: who holds it awake, who released it -> freeze, thaw, or look again later.
// docs/decisions/sleep.md. Pure.
//
// A task that no edge ever released never sleeps. One that an edge holds is awake, whatever else is
// so. An edge that is gone holds for kHoldsKept more, and its hold ends without being a release: no
// failure of an edge or of this agent puts a task to sleep.
#pragma once

#include <map>
#include <optional>
#include <variant>
#include <vector>

#include "base/time.h"
#include "link/messages.h"

namespace hob::host {

// A container that has just started warms up: its first seconds' CPU is what its first visitors
// wait for.
inline constexpr Duration kAwakeAfterStart{10'000};
// An edge that restarts, or loses its link, is back before; so is one after this agent restarted.
inline constexpr Duration kHoldsKept{10'000};
// A task that cannot be frozen now is awake so long before it is tried again.
inline constexpr Duration kFreezeRetry{60'000};
// Edges with a link at once, and those of a task that are remembered; beyond: refused, and
// forgotten.
inline constexpr size_t kEdgesMax = 64;

struct SleepState {
  bool frozen = false;  // as the sandbox last said
  // Effects under way. A thaw does not wait for a freeze, it calls it off.
  bool freezing = false;
  bool thawing = false;
  // Who holds it: nullopt while the edge's link is up, else until when its hold counts. Those that
  // count no more are kept: what such an edge does not name when it comes back it has released.
  std::map<EdgeId, std::optional<Instant>> holders{};
  bool released = false;  // by an edge, and not held by one since
  Instant not_before{};   // it is not frozen before
};

// What else matters of a task.
struct SleepView {
  bool healthy = false;
  Instant started_at{};  // its container
};

struct Freeze {};
struct Thaw {};
struct SleepLater {
  Instant at{};  // later than the `now` it was decided at: freeze it then, if nothing changes
};
using SleepAction = std::variant<Freeze, Thaw, SleepLater>;

// For a task whose container runs and shall go on running. nullopt: nothing until something
// changes.
std::optional<SleepAction> decide_sleep(const SleepState& state, const SleepView& view,
                                        Instant now);

void note_held(SleepState& state, const EdgeId& edge);
// By an edge that may never have held it: a new one says so of what it does not need.
void note_released(SleepState& state, const EdgeId& edge);
void note_edge_gone(SleepState& state, const EdgeId& edge, Instant now);
void note_edge_back(SleepState& state, const EdgeId& edge, Instant now);
// Its container ended or is another one.
void note_container_gone(SleepState& state);

}  // namespace hob::host
