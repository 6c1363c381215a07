// The brain of a task's life on one machine: what is so and what is wanted -> what to do next.
// Pure.
//
// PENDING -> ACTIVATING (pull, network, start) -> RUNNING -> STOPPING -> DEPROVISIONING -> STOPPED.
// A task that was healthy once is started again when its container exits (restart.h); before that,
// an exit ends it.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/time.h"
#include "host/health.h"
#include "host/restart.h"
#include "host/sleep.h"
#include "link/messages.h"

namespace hob::host {

inline constexpr Duration kKillRetry{
    5'000};                             // a killed container that has not ended is killed again
inline constexpr size_t kRunsMax = 16;  // kept: enough for the longest back-off
inline constexpr Duration kStopTimeoutMax{120'000};

// What is known of a task beyond its assignment; kept on disk (records.h), so that a new agent goes
// on with it.
struct TaskState {
  bool was_healthy = false;
  int restarts = 0;
  std::string image_digest{};
  std::vector<TaskRun> runs{};  // the last kRunsMax
  std::optional<Instant> pull_started_at{};
  std::optional<Instant> pull_stopped_at{};
  std::optional<Instant> started_at{};
  std::optional<Instant> stopped_at{};  // set: STOPPED, nothing of it is left but its log
  std::optional<Instant> stop_sent_at{};
  std::optional<int> exit_code{};
  bool out_of_memory = false;
  link::StopCode stop_code = link::StopCode::kNone;
  std::string reason{};  // why it ended or is unhealthy
  std::vector<std::string> last_lines{};
  bool permanent = false;  // `reason` would be so again
  bool operator==(const TaskState&) const = default;
};

enum class ContainerState { kNone, kRunning, kExited };  // kExited: to be removed

struct TaskView {
  link::Assignment assignment{};
  bool assigned = true;  // false: control has forgotten it
  TaskState state{};
  HealthState health{};
  ContainerState container = ContainerState::kNone;
  bool saved = false;  // our disk knows of it: without that nothing of it may be started
  bool image_here = false;
  bool network_here = false;
  SleepState sleep{};
  std::string stop_signal{};  // the image's; empty: SIGTERM
  std::optional<Instant> killed_at{};
  // Effects under way: nothing that needs them is decided until they end.
  bool pulling = false;
  bool attaching = false;
  bool starting = false;
  bool stopping = false;  // a signal is being sent
  bool cleaning = false;
};

struct PullImage {};  // network or disk; abandoned when the task is not wanted any more
struct AbandonPull {};
struct AttachNetwork {};
struct StartContainer {};
struct StopContainer {
  int signal = 15;
};
struct KillContainer {};
struct RemoveContainer {};  // what is left of one that exited, before it is started again
struct CleanUp {};          // removes the container, detaches the network; then the task is STOPPED
struct Forget {};           // nothing of it is left and nobody wants to know
struct WakeAt {
  Instant at{};  // always later than the `now` it was decided at
};
using Action = std::variant<PullImage, AbandonPull, AttachNetwork, StartContainer, StopContainer,
                            KillContainer, RemoveContainer, CleanUp, Forget, Freeze, Thaw, WakeAt>;

// What to do now; empty: nothing until something changes.
std::vector<Action> decide_task(const TaskView& view, Instant now);

// What an edge that holds it is told.
enum class Wakefulness { kAwake, kComing, kGone };  // kGone: it is ending, and will not run again
Wakefulness wakefulness_of(const TaskView& view);

// What control is told.
link::TaskReport report_of(const TaskView& view);

// Puts what happened into the view, with the words of ECS (stopCode, stoppedReason).
// "CannotPullContainerError: …". Ends a task; one that may be started again counts it as a run that
// failed. kPermanent: it would fail again.
enum class Failure { kPassing, kPermanent };
void note_failure(TaskView& view, std::string reason, Instant now,
                  Failure failure = Failure::kPassing);
void note_started(TaskView& view, Instant now);
void note_exit(TaskView& view, int exit_code, bool out_of_memory, Instant now);

void note_healthy(TaskView& view);
void note_stopped(TaskView& view, Instant now);
// Found running, frozen or ended by an agent that did not start it. One that is frozen stays so
// until it is held; one that is awake does for kHoldsKept, so that edges can say what they hold.
void note_adopted(TaskView& view, bool frozen, Instant now);

// "SIGQUIT", "QUIT", "3" -> 3; 15 if it is empty or unknown.
int signal_number(const std::string& name);

}  // namespace hob::host
