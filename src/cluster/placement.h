// Which host and address a task gets. Pure.
//
// Hosts that cannot isolate a task as it asks are out. Best effort zone spread as ECS's services
// have it, then the host with the fewest tasks of that service, then the one with most memory free.
// Ties break by id.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/time.h"
#include "cluster/records.h"

namespace hob::cluster {

inline constexpr Duration kNoRoomAfter{10'000};  // a task that fits nowhere for so long is refused
// Likewise while tasks are leaving: longer than most take to be stopped.
inline constexpr Duration kLeavingAwaited{60'000};
inline constexpr Duration kNoHostAfter{60'000};  // likewise while no host is connected
inline constexpr Duration kHostLostAfter{
    60'000};  // a host away for so long has its tasks replaced elsewhere
// A host away for so long is not coming back: what it was told to stop has ended.
inline constexpr Duration kHostForgottenAfter = std::chrono::hours(24);
inline constexpr Duration kAddressRest{
    120'000};  // a stopped task's address: edges may hold an old route to it

struct HostView {
  Host host{};
  // nullopt: connected. Not before control's own start: it cannot know of absences it did not see.
  std::optional<Instant> away_since{};
};

struct PlacementView {
  std::vector<HostView> hosts{};
  std::vector<const Task*> tasks{};  // all of them; they outlive the view
};

struct PlaceTask {
  TaskId task{};
  HostId host{};
  std::string zone{};
  std::string address{};
};
struct RefuseTask {  // it is STOPPED, TaskFailedToStart
  TaskId task{};
  std::string reason{};  // "RESOURCE:MEMORY: …", with what would fit
};
struct WakePlacementAt {
  Instant at{};
};
using PlacementAction = std::variant<PlaceTask, RefuseTask, WakePlacementAt>;

// At most one WakePlacementAt, the last.
std::vector<PlacementAction> decide_placement(const PlacementView& view, Instant now);

// Hosts away for kHostLostAfter, while another one is connected: with nowhere else to go, tasks
// stay where they are and are believed to run (static stability). `wake_at` (in and out): the next
// time this may change.
std::vector<HostId> lost_hosts(const std::vector<HostView>& hosts, Instant now,
                               std::optional<Instant>& wake_at);

struct EndTask {
  TaskId task{};
};  // STOPPED: nobody will ever report it
struct ForgetHost {
  HostId host{};
};  // remove its record
using GoneHostAction = std::variant<EndTask, ForgetHost>;

// What to do about hosts that are gone for good: their tasks that are told to stop end first, then
// the record goes, once none is left. A task that nothing replaced keeps its host's record.
std::vector<GoneHostAction> decide_gone_hosts(const PlacementView& view, Instant now);

}  // namespace hob::cluster
