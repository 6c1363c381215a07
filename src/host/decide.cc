#include "host/decide.h"

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdlib>
#include <string_view>

namespace hob::host {

using link::Health;
using link::StopCode;
using link::TaskStatus;

namespace {

bool may_restart(const TaskView& view) {
  return view.assignment.restart && view.state.was_healthy &&
         view.state.stop_code == StopCode::kNone;
}

// It shall not run (any more), for whatever reason.
bool is_ending(const TaskView& view) {
  if (!view.assigned || view.assignment.desired == link::DesiredStatus::kStopped) return true;
  if (view.state.stop_code != StopCode::kNone) return true;
  return view.container == ContainerState::kExited && !may_restart(view);
}

void add_run(TaskView& view, TaskRun run) {
  view.state.runs.push_back(run);
  if (view.state.runs.size() > kRunsMax) view.state.runs.erase(view.state.runs.begin());
}

std::vector<Action> decide_stop(const TaskView& view, Instant now) {
  const Duration stop_timeout =
      std::clamp(view.assignment.stop_timeout, Duration(0), kStopTimeoutMax);
  if (!view.state.stop_sent_at)
    return {StopContainer{signal_number(view.stop_signal)},
            WakeAt{now + stop_timeout + Duration(1)}};
  // The clock may have been set back: a signal is never in the future.
  const Instant sent_at = std::min(*view.state.stop_sent_at, now);
  if (now < sent_at + stop_timeout) return {WakeAt{sent_at + stop_timeout}};
  if (!view.killed_at || now >= *view.killed_at + kKillRetry)
    return {KillContainer{}, WakeAt{now + kKillRetry}};
  return {WakeAt{*view.killed_at + kKillRetry}};
}

// Of a container that shall run.
std::vector<Action> decide_rest(const TaskView& view, Instant now) {
  const SleepView seen{
      .healthy = view.health.health == Health::kHealthy,
      .started_at = view.state.runs.empty() ? now : view.state.runs.back().started_at};
  const std::optional<SleepAction> action = decide_sleep(view.sleep, seen, now);
  if (!action) return {};
  if (const auto* later = std::get_if<SleepLater>(&*action)) return {WakeAt{later->at}};
  if (std::holds_alternative<Freeze>(*action)) return {Freeze{}};
  return {Thaw{}};
}

}  // namespace

std::vector<Action> decide_task(const TaskView& view, Instant now) {
  if (view.state.stopped_at) {
    if (view.assigned || view.cleaning) return {};
    return {Forget{}};
  }
  const bool ending = is_ending(view);
  if (view.starting || view.stopping || view.cleaning) return {};
  if (view.container == ContainerState::kRunning) {
    if (ending) return decide_stop(view, now);
    return decide_rest(view, now);
  }
  if (ending) {
    if (view.pulling) return {AbandonPull{}};
    if (view.attaching) return {};
    return {CleanUp{}};
  }
  if (view.container == ContainerState::kExited) {
    const std::optional<RestartAction> restart = decide_restart({view.state.runs}, now);
    if (!restart) return {};
    if (const auto* later = std::get_if<StartAt>(&*restart)) return {WakeAt{later->at}};
    return {RemoveContainer{}};
  }
  std::vector<Action> actions;
  if (!view.image_here && !view.pulling) actions.emplace_back(PullImage{});
  if (!view.network_here && !view.attaching) actions.emplace_back(AttachNetwork{});
  if (view.image_here && view.network_here && view.saved) actions.emplace_back(StartContainer{});
  return actions;
}

Wakefulness wakefulness_of(const TaskView& view) {
  if (view.state.stopped_at || is_ending(view)) return Wakefulness::kGone;
  const bool runs =
      view.container == ContainerState::kRunning && !view.sleep.frozen && !view.sleep.freezing;
  return runs ? Wakefulness::kAwake : Wakefulness::kComing;
}

link::TaskReport report_of(const TaskView& view) {
  link::TaskReport report;
  report.task = view.assignment.task;
  report.stop_code = view.state.stop_code;
  report.reason = view.state.reason;
  report.exit_code = view.state.exit_code;
  report.image_digest = view.state.image_digest;
  report.restarts = view.state.restarts;
  report.last_lines = view.state.last_lines;
  report.permanent = view.state.permanent;
  report.pull_started_at = view.state.pull_started_at;
  report.pull_stopped_at = view.state.pull_stopped_at;
  report.started_at = view.state.started_at;
  report.stopped_at = view.state.stopped_at;
  report.health = view.health.health;
  if (view.state.stopped_at) {
    report.status = TaskStatus::kStopped;
    report.health = Health::kUnknown;
  } else if (is_ending(view)) {
    report.status = view.container == ContainerState::kRunning ? TaskStatus::kStopping
                                                               : TaskStatus::kDeprovisioning;
  } else if (view.state.started_at) {
    // It is RUNNING between its exit and its restart, too: the task lives on, only its container
    // does not.
    report.status = TaskStatus::kRunning;
    report.asleep = view.container == ContainerState::kRunning && view.sleep.frozen;
    if (view.container != ContainerState::kRunning && report.health == Health::kHealthy)
      report.health = Health::kUnknown;
  } else {
    report.status =
        view.image_here || view.pulling ? TaskStatus::kActivating : TaskStatus::kPending;
  }
  return report;
}

void note_failure(TaskView& view, std::string reason, Instant now, Failure failure) {
  if (view.state.stop_code != StopCode::kNone) return;  // the first cause counts
  if (may_restart(view)) {
    view.state.reason = std::move(reason);
    add_run(view, {now, now});
    view.container = ContainerState::kExited;
    return;
  }
  view.state.stop_code = StopCode::kTaskFailedToStart;
  view.state.reason = std::move(reason);
  view.state.permanent = failure == Failure::kPermanent;
}

void note_started(TaskView& view, Instant now) {
  note_container_gone(view.sleep);
  view.container = ContainerState::kRunning;
  if (view.state.started_at)
    ++view.state.restarts;
  else
    view.state.started_at = now;
  add_run(view, {now, std::nullopt});
  view.state.stop_sent_at.reset();
  view.killed_at.reset();
  view.health = start_health(view.health, now);
  if (!view.assignment.probe) view.health.health = Health::kHealthy;
  if (view.health.health == Health::kHealthy) view.state.was_healthy = true;
}

void note_exit(TaskView& view, int exit_code, bool out_of_memory, Instant now) {
  view.container = ContainerState::kExited;
  note_container_gone(view.sleep);
  if (!view.state.runs.empty() && !view.state.runs.back().stopped_at)
    view.state.runs.back().stopped_at = now;
  view.state.exit_code = exit_code;
  view.state.out_of_memory = out_of_memory;
  // A healthy one that ended has the whole time of a start again to come back.
  if (view.health.health == Health::kHealthy) {
    view.health.health = Health::kUnknown;
    view.health.starting_since = now;
  }
  const bool wanted = view.assigned && view.assignment.desired == link::DesiredStatus::kRunning;
  const std::string why = out_of_memory ? "OutOfMemoryError: Container killed due to memory usage"
                                        : "Essential container in task exited";
  if (!wanted || view.state.stop_code != StopCode::kNone) return;  // it was asked to end
  view.state.reason = why;
  view.state.permanent = false;
  if (!may_restart(view)) view.state.stop_code = StopCode::kEssentialContainerExited;
}

void note_healthy(TaskView& view) {
  view.state.was_healthy = true;
  view.state.reason.clear();
  view.state.last_lines.clear();
  view.state.permanent = false;
}

void note_stopped(TaskView& view, Instant now) {
  view.state.stopped_at = now;
  view.container = ContainerState::kNone;
  view.network_here = false;
  if (view.state.stop_code != StopCode::kNone) return;
  // Asked to end from above: control knows better why and writes its own reason.
  view.state.stop_code = view.assignment.service.empty() ? StopCode::kUserInitiated
                                                         : StopCode::kServiceSchedulerInitiated;
  view.state.reason =
      view.assignment.service.empty() ? "Task stopped by user" : "Scaling activity initiated";
}

void note_adopted(TaskView& view, bool frozen, Instant now) {
  view.container = ContainerState::kRunning;
  view.sleep.frozen = frozen;
  view.sleep.not_before = now + kHoldsKept;
  if (!view.state.started_at) view.state.started_at = now;
  if (view.state.runs.empty() || view.state.runs.back().stopped_at)
    add_run(view, {now, std::nullopt});
  // What was healthy stays so until a probe says otherwise: an agent's restart takes no task out of
  // the routes.
  if (view.health.starting_since == Instant{}) view.health.starting_since = now;
  if (!view.assignment.probe) {
    view.health.health = Health::kHealthy;
    view.state.was_healthy = true;
  }
}

int signal_number(const std::string& name) {
  struct Signal {
    std::string_view name;
    int number;
  };
  static constexpr std::array kSignals = {
      Signal{"HUP", SIGHUP},   Signal{"INT", SIGINT},     Signal{"QUIT", SIGQUIT},
      Signal{"ABRT", SIGABRT}, Signal{"KILL", SIGKILL},   Signal{"USR1", SIGUSR1},
      Signal{"USR2", SIGUSR2}, Signal{"ALRM", SIGALRM},   Signal{"TERM", SIGTERM},
      Signal{"CONT", SIGCONT}, Signal{"WINCH", SIGWINCH}, Signal{"PWR", SIGPWR}};
  std::string_view text = name;
  if (text.starts_with("SIG")) text.remove_prefix(3);
  for (const Signal& signal : kSignals) {
    if (signal.name == text) return signal.number;
  }
  if (text.starts_with("RTMIN+")) {
    const int offset = std::atoi(std::string(text.substr(6)).c_str());
    if (offset >= 0 && SIGRTMIN + offset <= SIGRTMAX) return SIGRTMIN + offset;
  }
  const int number = std::atoi(name.c_str());
  return number >= 1 && number <= 64 ? number : SIGTERM;
}

}  // namespace hob::host
