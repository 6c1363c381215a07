#include "host/task_actor.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "base/file.h"
#include "base/log.h"
#include "host/cri_log.h"
#include "network/subnets.h"

namespace hob::host {

using link::Health;

namespace {

constexpr int kExitUnknown = 137;  // it is gone and nobody can say how: as if killed
constexpr Backoff kPullBackoff{.min = Duration(200), .max = Duration(5'000)};
constexpr Backoff kThawBackoff{.min = Duration(5), .max = Duration(1'000)};
constexpr Backoff kCleanUpBackoff{.min = Duration(200), .max = Duration(30'000)};

double unit(Random& random) {
  uint32_t bits = 0;
  random.fill(&bits, sizeof bits);
  return static_cast<double>(bits) / 4294967296.0;
}

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

// "198.18.0.17" -> "ip-198-18-0-17", as EC2 names its hosts.
std::string host_name_of(std::string address) {
  std::replace(address.begin(), address.end(), '.', '-');
  return "ip-" + address;
}

// What the image or the task asks for is not to be had, whoever asks again. A digest that does not
// match (kCorrupt) may have been spoilt on its way.
Failure would_fail_again(Code code) {
  const bool permanent = code == Code::kNotFound || code == Code::kDenied ||
                         code == Code::kInvalid || code == Code::kLimit;
  return permanent ? Failure::kPermanent : Failure::kPassing;
}

std::string join(const std::vector<int>& numbers) {
  std::string text;
  for (const int number : numbers) text += fmt::format("{}{}", text.empty() ? "" : ", ", number);
  return text;
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

Async<> TaskActor::pull() {
  struct Finally {
    TaskActor& actor;
    ~Finally() {
      actor.view_.pulling = false;
      actor.wake();
    }
  };
  const Finally finally{*this};
  const link::ImageSource& source = view_.assignment.containers.at(0).image;
  image::PullRequest request{.registry = source.registry,
                             .plain_http = source.plain_http,
                             .repository = source.repository,
                             .reference = source.reference,
                             .username = source.username,
                             .password = source.password,
                             .account = view_.assignment.account};
  // What it ran before is what it runs again, wherever the tag has gone meanwhile.
  if (!view_.state.image_digest.empty()) request.reference = view_.state.image_digest;
  if (!view_.state.pull_started_at) view_.state.pull_started_at = ports_.clock.now();
  Backoff backoff = kPullBackoff;
  for (int tries = 1;; ++tries) {
    Result<image::LocalImage> pulled = co_await ports_.image.pull(request);
    if (pulled) {
      image_ = std::move(*pulled);
      view_.image_here = true;
      view_.stop_signal = image_.config.stop_signal;
      view_.state.image_digest = image_.digest;
      if (!view_.state.pull_stopped_at) view_.state.pull_stopped_at = ports_.clock.now();
      co_return;
    }
    const Code code = pulled.error().code;
    const bool may_pass = code == Code::kUnavailable || code == Code::kTimeout;
    if (!may_pass || tries == kPullTries) {
      view_.state.pull_stopped_at = ports_.clock.now();
      const std::string tried =
          tries > 1 ? fmt::format("pull has been tried {} times: ", tries) : "";
      log::warn("image not pulled",
                {{"task", view_.assignment.task.value}, {"error", pulled.error().message}});
      note_failure(view_,
                   fmt::format("CannotPullContainerError: {}{}", tried, pulled.error().message),
                   ports_.clock.now(), would_fail_again(code));
      co_return;
    }
    co_await sleep_for(backoff.next(unit(random_)));
  }
}

Async<> TaskActor::attach() {
  network::TaskAddress address{.task = view_.assignment.task.value,
                               .address = view_.assignment.address,
                               .prefix_length = view_.assignment.prefix_length,
                               .gateway = view_.assignment.gateway};
  Result<std::filesystem::path> handle = co_await ports_.network.attach(std::move(address));
  view_.attaching = false;
  if (handle) {
    network_namespace_ = std::move(*handle);
    view_.network_here = true;
  } else {
    log::error("task's network not made",
               {{"task", view_.assignment.task.value}, {"error", handle.error().message}});
    note_failure(view_,
                 fmt::format("ResourceInitializationError: network: {}", handle.error().message),
                 ports_.clock.now());
  }
  wake();
}

Async<> TaskActor::start_container() {
  const link::Assignment& assignment = view_.assignment;
  const link::Container& container = assignment.containers.at(0);
  sandbox::TaskSpec spec{.task = assignment.task.value,
                         .image = image_,
                         .entry_point = container.entry_point,
                         .command = container.command,
                         .environment = container.environment,
                         .cpu = assignment.cpu,
                         .memory_mib = assignment.memory_mib,
                         .storage_mib = assignment.ephemeral_storage_mib,
                         .network_namespace = network_namespace_,
                         .address = assignment.address,
                         .name_server = std::string(network::kVpcDns),
                         .host_name = host_name_of(assignment.address)};
  const Result<void> started = co_await ports_.sandbox.start(std::move(spec));
  view_.starting = false;
  if (started) {
    note_started(view_, ports_.clock.now());
    ++run_;
    log::info("task started", {{"task", assignment.task.value},
                               {"service", assignment.service},
                               {"restarts", view_.state.restarts}});
    scope_.spawn("task exit", [this] { return await_exit(); });
    scope_.spawn("task health", [this] { return watch_health(); });
  } else {
    log::warn("task not started",
              {{"task", assignment.task.value}, {"error", started.error().message}});
    note_failure(view_, fmt::format("CannotStartContainerError: {}", started.error().message),
                 ports_.clock.now(), would_fail_again(started.error().code));
  }
  wake();
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
    co_await sleep_for(backoff.next(unit(random_)));
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
    co_await sleep_for(backoff.next(unit(random_)));
  }
  end_sleep();
  view_.health = resume_health(std::move(view_.health), ports_.clock.now());
  changed_.set();
  log::info("task awake",
            {{"task", view_.assignment.task.value}, {"service", view_.assignment.service}});
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
    co_await sleep_for(backoff.next(unit(random_)));
  }
}

Async<> TaskActor::watch_health() {
  if (!view_.assignment.probe) co_return;
  const link::Probe probe = *view_.assignment.probe;
  const uint64_t mine = run_;
  const auto goes_on = [&] { return run_ == mine && view_.container == ContainerState::kRunning; };
  while (goes_on()) {
    co_await awake_.wait();
    if (!goes_on()) co_return;
    const Duration wait = next_probe_at(view_.health, probe) - ports_.clock.now();
    // Bounded, so that a clock set back does not stop the probes.
    if (wait > Duration(0)) co_await sleep_for(std::min(wait, probe.interval));
    if (!goes_on()) co_return;
    if (!awake_.is_set()) continue;
    const uint64_t turn = turn_;
    const Result<void> answer = co_await ports_.probe.probe(probe, view_.assignment.address);
    if (!goes_on()) co_return;
    if (turn != turn_) continue;  // it slept meanwhile: its answer says nothing
    const Health before = view_.health.health;
    const std::string error = answer ? "" : answer.error().message;
    view_.health = after_probe(std::move(view_.health), probe, error, ports_.clock.now());
    if (view_.health.health == before) continue;
    log::info("task health", {{"task", view_.assignment.task.value},
                              {"error", view_.health.last_error},
                              {"healthy", view_.health.health == Health::kHealthy ? 1 : 0}});
    if (view_.health.health == Health::kHealthy)
      note_healthy(view_);
    else
      co_await gather_last_lines();
    wake();
  }
}

Async<> TaskActor::gather_last_lines() {
  describe_unhealthy();
  const std::filesystem::path path = ports_.sandbox.log_path(view_.assignment.task.value);
  std::vector<std::string> lines = co_await on_pool(
      ports_.pool, [path] { return read_last_lines(path, kLastLinesMax, kLastLineBytesMax); });
  view_.state.last_lines = std::move(lines);
  wake();
}

void TaskActor::describe_unhealthy() {
  if (view_.health.health != Health::kUnhealthy || view_.state.stop_code != link::StopCode::kNone ||
      view_.container != ContainerState::kRunning)
    return;
  std::string& text = view_.state.reason;
  text = "Task failed container health checks";
  if (!view_.health.last_error.empty()) text += ": " + view_.health.last_error;
  view_.state.permanent = false;
  if (!view_.assignment.probe || network_namespace_.empty()) return;
  const int wanted = view_.assignment.probe->port;
  const ListeningPorts ports = ports_.probe.listening(network_namespace_);
  const auto has = [](const std::vector<int>& list, int port) {
    return std::find(list.begin(), list.end(), port) != list.end();
  };
  if (has(ports.reachable, wanted)) return;
  text += fmt::format("; nothing listens on port {}", wanted);
  if (has(ports.loopback_only, wanted)) {
    text += fmt::format(
        " but on 127.0.0.1:{}, which only the container itself can reach: listen on 0.0.0.0",
        wanted);
  } else if (!ports.reachable.empty()) {
    text += fmt::format("; the container listens on port {}", join(ports.reachable));
  }
  // It had all its time, is up, and serves somewhere: more time would not bring it here.
  const bool serves_elsewhere = has(ports.loopback_only, wanted) || !ports.reachable.empty();
  view_.state.permanent = serves_elsewhere && view_.state.restarts == 0 && !view_.state.was_healthy;
}

}  // namespace hob::host
