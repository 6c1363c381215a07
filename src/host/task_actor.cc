#include "host/task_actor.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "base/file.h"
#include "base/log.h"

namespace hob::host {

using link::Health;

namespace {

constexpr int kExitUnknown = 137;  // it is gone and nobody can say how: as if killed
constexpr Backoff kThawBackoff{.min = Duration(5), .max = Duration(1'000)};
constexpr Backoff kCleanUpBackoff{.min = Duration(200), .max = Duration(30'000)};

// Replaces the file, atomically for every reader.
Result<void> write_file(const std::filesystem::path& path, const std::string& content) {
  const std::string temporary = path.string() + ".new";
  const Fd fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!fd) return fail_errno(errno, "creating " + temporary);
  for (size_t at = 0; at < content.size();) {
    const ssize_t wrote = ::write(fd.get(), content.data() + at, content.size() - at);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return fail_errno(errno, "writing " + temporary);
    at += static_cast<size_t>(wrote);
  }
  if (::rename(temporary.c_str(), path.c_str()) != 0)
    return fail_errno(errno, "renaming " + temporary);
  return {};
}

}  // namespace

TaskActor::TaskActor(const Executor& executor, TaskPorts ports, Random& random, Callbacks callbacks,
                     std::filesystem::path file, SavedTask saved, Found found)
    : ports_(ports),
      random_(random),
      callbacks_(std::move(callbacks)),
      file_(std::move(file)),
      log_acked_(saved.log_acked),
      log_sent_(saved.log_sent),
      changed_(executor),
      awake_(executor),
      unsaved_(executor),
      saved_(executor),
      pull_scope_(executor),
      scope_(executor) {
  view_.assignment = std::move(saved.assignment);
  view_.state = std::move(saved.state);
  view_.health.health = saved.health;
  if (found != Found::kFrozen) awake_.set();
  if (found != Found::kNothing) {
    note_adopted(view_, found == Found::kFrozen, ports_.clock.now());
    return;
  }
  // It is gone without a trace (the machine was restarted): what was running has ended by now.
  const bool ran = !view_.state.runs.empty() && !view_.state.runs.back().stopped_at;
  if (ran && !view_.state.stopped_at) note_exit(view_, kExitUnknown, false, ports_.clock.now());
}

void TaskActor::start() {
  if (view_.container == ContainerState::kRunning) {
    ++run_;
    view_.attaching = true;
    scope_.spawn("task network", [this] { return attach(); });
    scope_.spawn("task exit", [this] { return await_exit(); });
    scope_.spawn("task health", [this] { return watch_health(); });
  }
  scope_.spawn("task", [this] { return run(); });
  scope_.spawn("task save", [this] { return keep_saved(); });
}

Async<> TaskActor::stop() {
  pull_scope_.cancel();
  scope_.cancel();
  co_await pull_scope_.join();
  co_await scope_.join();
  // What was reported last may not be on disk yet, and the next agent begins with what is there.
  if (!done_) co_await save();
}

void TaskActor::assign(const link::Assignment& assignment) {
  // Desired status only moves forward: a late message does not bring a stopping task back.
  if (view_.assignment.desired == link::DesiredStatus::kRunning)
    view_.assignment.desired = assignment.desired;
  view_.assignment.restart = assignment.restart;
  // Control mints a fresh password with every welcome; the one on our disk may have run out.
  auto fresh = assignment.containers.begin();
  for (link::Container& container : view_.assignment.containers) {
    if (fresh == assignment.containers.end()) break;
    container.image.username = fresh->image.username;
    container.image.password = fresh->image.password;
    ++fresh;
  }
  wake();
}

void TaskActor::unassign() {
  view_.assigned = false;
  wake();
}

// Nothing of this is kept on disk: edges say it again to the next agent.
void TaskActor::hold(const EdgeId& edge) {
  note_held(view_.sleep, edge);
  changed_.set();
}

void TaskActor::release(const EdgeId& edge) {
  note_released(view_.sleep, edge);
  changed_.set();
}

void TaskActor::edge_gone(const EdgeId& edge) {
  note_edge_gone(view_.sleep, edge, ports_.clock.now());
  changed_.set();
}

void TaskActor::edge_back(const EdgeId& edge) {
  note_edge_back(view_.sleep, edge, ports_.clock.now());
  changed_.set();
}

void TaskActor::shorten_stop_timeout(Duration max) {
  view_.assignment.stop_timeout = std::min(view_.assignment.stop_timeout, max);
}

void TaskActor::set_log_acked(const LogPosition& position) {
  log_acked_ = position;
  unsaved_.set();
}

Async<> TaskActor::set_log_sent(LogPosition position) {
  log_sent_ = position;
  const uint64_t mine = ++wanted_version_;
  unsaved_.set();
  while (saved_version_ < mine) {
    saved_.reset();
    co_await saved_.wait();
  }
}

// Without fsync: what survives kill -9 is enough, since no container survives a power cut either.
Async<> TaskActor::save() {
  const SavedTask saved{.assignment = view_.assignment,
                        .state = view_.state,
                        .health = view_.health.health,
                        .log_acked = log_acked_,
                        .log_sent = log_sent_};
  const Result<void> written = co_await on_pool(
      ports_.pool, [file = file_, text = encode(saved)] { return write_file(file, text); });
  if (written) {
    view_.saved = true;
  } else {
    log::error("task's state not saved",
               {{"task", view_.assignment.task.value}, {"error", written.error().message}});
  }
}

Async<> TaskActor::keep_saved() {
  for (;;) {
    unsaved_.reset();
    const bool first = !view_.saved;
    const uint64_t version = wanted_version_;
    co_await save();
    // Failed, too: a full disk does not hold up the log.
    saved_version_ = version;
    saved_.set();
    if (!view_.saved)
      co_await unsaved_.wait_for(kCleanUpBackoff.max);
    else if (first)
      wake();
    else
      co_await unsaved_.wait();
  }
}

double TaskActor::draw() {
  uint32_t bits = 0;
  random_.fill(&bits, sizeof bits);
  return static_cast<double>(bits) / 4294967296.0;
}

void TaskActor::wake() {
  changed_.set();
  unsaved_.set();
}

Async<> TaskActor::run() {
  if (view_.assignment.containers.size() != 1) {
    note_failure(view_,
                 fmt::format("TaskFailedToStart: a task has one container, this one has {}",
                             view_.assignment.containers.size()),
                 ports_.clock.now());
  }
  for (;;) {
    changed_.reset();
    const Instant now = ports_.clock.now();
    std::optional<Instant> wake_at;
    const bool coming_back =
        view_.state.started_at && view_.assignment.probe && view_.health.health == Health::kUnknown;
    if (coming_back) {
      view_.health = check_start(std::move(view_.health), *view_.assignment.probe, now);
      if (view_.health.health == Health::kUnknown)
        wake_at = start_deadline(view_.health, *view_.assignment.probe);
      else if (view_.container == ContainerState::kRunning) {
        describe_unhealthy();  // now: the report that follows may be the last control waits for
        scope_.spawn("last lines", [this] { return gather_last_lines(); });
      }
    }
    for (const Action& action : decide_task(view_, now)) {
      if (const auto* later = std::get_if<WakeAt>(&action)) {
        wake_at = wake_at ? std::min(*wake_at, later->at) : later->at;
      } else if (std::holds_alternative<Forget>(action)) {
        done_ = true;
        callbacks_.done();
        co_return;
      } else {
        apply(action);
      }
    }
    if (const Wakefulness wakefulness = this->wakefulness(); told_ != wakefulness) {
      told_ = wakefulness;
      callbacks_.wakefulness(wakefulness);
    }
    link::TaskReport report = report_of(view_);
    if (report != reported_) {
      reported_ = report;
      callbacks_.report(report);
    }
    if (wake_at)
      co_await changed_.wait_for(std::max(*wake_at - ports_.clock.now(), Duration(1)));
    else
      co_await changed_.wait();
  }
}

void TaskActor::apply(const Action& action) {
  // The flags are set here and not in the coroutines, which begin later.
  if (std::holds_alternative<PullImage>(action)) {
    view_.pulling = true;
    pull_scope_.spawn("task pull", [this] { return pull(); });
  } else if (std::holds_alternative<AbandonPull>(action)) {
    pull_scope_.cancel();
  } else if (std::holds_alternative<AttachNetwork>(action)) {
    view_.attaching = true;
    scope_.spawn("task network", [this] { return attach(); });
  } else if (std::holds_alternative<StartContainer>(action)) {
    view_.starting = true;
    scope_.spawn("task start", [this] { return start_container(); });
  } else if (std::holds_alternative<Freeze>(action)) {
    view_.sleep.freezing = true;
    awake_.reset();
    scope_.spawn("task freeze", [this, turn = ++turn_] { return freeze(turn); });
  } else if (std::holds_alternative<Thaw>(action)) {
    view_.sleep.thawing = true;
    scope_.spawn("task thaw", [this, turn = ++turn_] { return thaw(turn); });
  } else if (const auto* stop = std::get_if<StopContainer>(&action)) {
    end_sleep();  // the sandbox thaws what gets a signal
    view_.stopping = true;
    view_.state.stop_sent_at = ports_.clock.now();
    scope_.spawn("task stop", [this, number = stop->signal] { return send_signal(number); });
  } else if (std::holds_alternative<KillContainer>(action)) {
    end_sleep();
    view_.stopping = true;
    view_.killed_at = ports_.clock.now();
    log::info("task killed: it did not stop in time", {{"task", view_.assignment.task.value}});
    scope_.spawn("task kill", [this] { return send_signal(9); });
  } else if (std::holds_alternative<RemoveContainer>(action)) {
    view_.cleaning = true;
    scope_.spawn("task remove", [this] { return remove_container(); });
  } else if (std::holds_alternative<CleanUp>(action)) {
    view_.cleaning = true;
    scope_.spawn("task clean up", [this] { return clean_up(); });
  }
}

Async<> TaskActor::send_signal(int number) {
  const Result<void> sent = co_await ports_.sandbox.signal(view_.assignment.task.value, number);
  // It may have ended by itself just now; a real failure shows as a kill that has to be repeated.
  if (!sent && sent.error().code != Code::kNotFound) {
    log::warn("signal not sent", {{"task", view_.assignment.task.value},
                                  {"signal", number},
                                  {"error", sent.error().message}});
  }
  view_.stopping = false;
  wake();
}

Async<> TaskActor::remove_container() {
  co_await gather_last_lines();
  const Result<void> removed = co_await ports_.sandbox.remove(view_.assignment.task.value);
  if (removed) {
    view_.container = ContainerState::kNone;
  } else {
    log::error("container not removed",
               {{"task", view_.assignment.task.value}, {"error", removed.error().message}});
    co_await sleep_for(kCleanUpBackoff.max);
  }
  view_.cleaning = false;
  wake();
}

Async<> TaskActor::clean_up() {
  co_await gather_last_lines();
  // Without an end: as long as something of it may be there, its address must not be given away.
  Backoff backoff = kCleanUpBackoff;
  for (;;) {
    Result<void> cleaned = co_await ports_.sandbox.remove(view_.assignment.task.value);
    if (cleaned) cleaned = co_await ports_.network.detach(view_.assignment.task.value);
    if (cleaned) break;
    log::error("task not cleaned up",
               {{"task", view_.assignment.task.value}, {"error", cleaned.error().message}});
    co_await sleep_for(backoff.next(draw()));
  }
  note_stopped(view_, ports_.clock.now());
  log::info("task stopped", {{"task", view_.assignment.task.value},
                             {"service", view_.assignment.service},
                             {"reason", view_.state.reason},
                             {"exit_code", view_.state.exit_code.value_or(-1)}});
  view_.cleaning = false;
  wake();
}

void TaskActor::end_sleep() {
  ++turn_;
  note_container_gone(view_.sleep);
  awake_.set();
}

Async<> TaskActor::freeze(uint64_t turn) {
  if (turn != turn_) co_return;
  const Result<void> frozen = co_await ports_.sandbox.freeze(view_.assignment.task.value);
  if (turn != turn_) co_return;
  view_.sleep.freezing = false;
  if (frozen) {
    view_.sleep.frozen = true;
    log::info("task asleep",
              {{"task", view_.assignment.task.value}, {"service", view_.assignment.service}});
  } else {
    view_.sleep.not_before = ports_.clock.now() + kFreezeRetry;
    awake_.set();
    log::warn("task not frozen, it stays awake",
              {{"task", view_.assignment.task.value}, {"error", frozen.error().message}});
  }
  changed_.set();
}

Async<> TaskActor::thaw(uint64_t turn) {
  Backoff backoff = kThawBackoff;
  for (;;) {
    if (turn != turn_) co_return;
    const Result<void> thawed = co_await ports_.sandbox.thaw(view_.assignment.task.value);
    if (turn != turn_) co_return;
    // Not known any more: it has ended, and its exit says so.
    if (thawed || thawed.error().code == Code::kNotFound) break;
    log::error("task not thawed",
               {{"task", view_.assignment.task.value}, {"error", thawed.error().message}});
    co_await sleep_for(backoff.next(draw()));
  }
  end_sleep();
  view_.health = resume_health(std::move(view_.health), ports_.clock.now());
  changed_.set();
  log::info("task awake",
            {{"task", view_.assignment.task.value}, {"service", view_.assignment.service}});
  co_await ports_.sandbox.catch_up(view_.assignment.task.value);
}

Async<> TaskActor::await_exit() {
  Backoff backoff = kCleanUpBackoff;
  for (;;) {
    const Result<sandbox::TaskExit> exit =
        co_await ports_.sandbox.wait(view_.assignment.task.value);
    if (exit || exit.error().code == Code::kNotFound) {
      // Not known any more: it ended and nobody can say how.
      const sandbox::TaskExit how = exit ? *exit : sandbox::TaskExit{.exit_code = kExitUnknown};
      end_sleep();
      note_exit(view_, how.exit_code, how.out_of_memory, ports_.clock.now());
      log::info("container exited", {{"task", view_.assignment.task.value},
                                     {"exit_code", how.exit_code},
                                     {"out_of_memory", how.out_of_memory ? 1 : 0}});
      wake();
      co_return;
    }
    log::error("waiting for a container failed",
               {{"task", view_.assignment.task.value}, {"error", exit.error().message}});
    co_await sleep_for(backoff.next(draw()));
  }
}

}  // namespace hob::host
