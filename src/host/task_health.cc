// A running container's health, and what is said of one that is unhealthy.
#include <algorithm>

#include "base/log.h"
#include "host/cri_log.h"
#include "host/task_actor.h"

namespace hob::host {

using link::Health;

namespace {

std::string join(const std::vector<int>& numbers) {
  std::string text;
  for (const int number : numbers) text += fmt::format("{}{}", text.empty() ? "" : ", ", number);
  return text;
}

}  // namespace

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
  if (has(ports.reachable, wanted)) {
    // It answers, and not as wanted, or not in time: its port is right.
    if (view_.assignment.probe->protocol == link::ProbeProtocol::kHttp)
      text += ". Another path is chosen by: hob deploy --health-path /";
    return;
  }
  text += fmt::format("; nothing listens on port {}", wanted);
  if (has(ports.loopback_only, wanted)) {
    text += fmt::format(
        " but on 127.0.0.1:{}, which only the container itself can reach: listen on 0.0.0.0",
        wanted);
  } else if (!ports.reachable.empty()) {
    text += fmt::format("; the container listens on port {}: hob deploy --port {}",
                        join(ports.reachable), ports.reachable.front());
  }
  // It had all its time, is up, and serves somewhere: more time would not bring it here.
  const bool serves_elsewhere = has(ports.loopback_only, wanted) || !ports.reachable.empty();
  view_.state.permanent = serves_elsewhere && view_.state.restarts == 0 && !view_.state.was_healthy;
}

}  // namespace hob::host
