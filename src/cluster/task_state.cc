#include "cluster/task_state.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <string>
#include <utility>

#include "base/assert.h"
#include "network/subnets.h"

namespace hob::cluster {

namespace {

constexpr size_t kLastLinesMax = 20;
constexpr size_t kLineBytesMax = 1024;
constexpr size_t kReasonBytesMax = 1024;  // ECS's container reason

bool contains_any(std::string_view text, std::initializer_list<std::string_view> words) {
  std::string lower(text);
  std::ranges::transform(lower, lower.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return std::ranges::any_of(
      words, [&](std::string_view w) { return lower.find(w) != std::string::npos; });
}

}  // namespace

bool names_digest(const Deployment& deployment) {
  if (!deployment.image_digest.empty() || deployment.task.containers.empty()) return true;
  return deployment.task.containers.front().image.reference.starts_with("sha256:");
}

bool is_present(const Task& task) { return task.status != TaskStatus::kStopped; }

bool is_wanted(const Task& task) {
  return is_present(task) && task.desired == link::DesiredStatus::kRunning && !task.draining_since;
}

bool is_healthy(const Task& task) {
  return is_wanted(task) && task.status == TaskStatus::kRunning && task.health == Health::kHealthy;
}

bool is_failed(const Task& task) {
  if (task.was_healthy) return false;
  if (task.stop_code == StopCode::kUserInitiated) return false;
  if (task.stop_code == StopCode::kServiceSchedulerInitiated) {
    return task.stopped_reason.starts_with(kReasonUnhealthy) ||
           task.stopped_reason.starts_with(kReasonStartTimeout);
  }
  return !is_present(task);
}

bool is_permanent_failure(const Task& task) {
  if (!is_failed(task)) return false;
  const std::string_view reason = task.stopped_reason;
  if (reason.starts_with(kReasonNoRoom) || reason.starts_with(kReasonStartTimeout)) return true;
  if (task.permanent) return *task.permanent;
  if (reason.starts_with("CannotPullContainerError")) {
    return contains_any(
        reason, {"not found", "no such", "does not exist", "unknown", "denied", "unauthorized",
                 "authentication required", "exec format", "platform"});
  }
  if (reason.starts_with("CannotStartContainerError") ||
      reason.starts_with("CannotCreateContainerError")) {
    return contains_any(
        reason, {"not found", "no such", "permission denied", "exec format", "does not exist"});
  }
  return false;
}

Task merged(Task task, const link::TaskReport& report, Instant now) {
  HOB_ASSERT(task.id == report.task);
  if (!is_present(task)) return task;
  const bool was_running = task.status == TaskStatus::kRunning;
  task.status = std::max(task.status, report.status);
  // After its container is restarted a host may say PENDING again for a task that is RUNNING: the
  // health tells.
  task.health =
      was_running && report.status < TaskStatus::kRunning ? Health::kUnhealthy : report.health;
  task.asleep = report.asleep && task.status == TaskStatus::kRunning;
  if (!report.image_digest.empty()) task.image_digest = report.image_digest;
  task.restarts = std::max(task.restarts, report.restarts);
  if (report.permanent) task.permanent = report.permanent;
  if (!report.last_lines.empty()) {
    task.last_lines.clear();
    const size_t skip =
        report.last_lines.size() - std::min(report.last_lines.size(), kLastLinesMax);
    for (size_t i = skip; i < report.last_lines.size(); ++i) {
      task.last_lines.push_back(report.last_lines[i].substr(0, kLineBytesMax));
    }
  }
  if (report.exit_code) task.exit_code = report.exit_code;
  if (report.started_at && !task.started_at) task.started_at = report.started_at;
  // Why control stopped it is truer than what that looked like from the host.
  if (task.stop_code == StopCode::kNone && report.stop_code != StopCode::kNone) {
    task.stop_code = report.stop_code;
    task.stopped_reason = report.reason.substr(0, kReasonBytesMax);
  }
  if (task.status == TaskStatus::kStopped) {
    task.desired = link::DesiredStatus::kStopped;
    task.health = Health::kUnknown;
    // By our clock, which is also the one that forgets it: a host's may be ahead.
    task.stopped_at = std::min(report.stopped_at.value_or(now), now);
    task.unhealthy_since.reset();
    return task;
  }
  if (report.health == Health::kUnhealthy && report.reason.starts_with(kReasonUnhealthy))
    task.unhealthy_reason = report.reason.substr(0, kReasonBytesMax);
  const bool healthy = task.status == TaskStatus::kRunning && task.health == Health::kHealthy;
  if (healthy) {
    // Not for a task of a version that did not note it: it became healthy long ago.
    if (!task.was_healthy) task.healthy_at = now;
    task.was_healthy = true;
    task.unhealthy_since.reset();
    task.unhealthy_reason.clear();
  } else if (task.was_healthy && !task.unhealthy_since) {
    task.unhealthy_since = now;
  }
  return task;
}

link::Assignment assignment_of(const Task& task, const Service* service) {
  HOB_ASSERT(!task.host.empty());
  link::Assignment assignment{
      .task = task.id,
      .account = task.account,
      .service = task.service,
      .desired = task.desired,
      .cpu = task.cpu,
      .memory_mib = task.memory_mib,
      .address = task.address,
      .isolation = task.isolation,
  };
  if (const auto subnet = network::subnet_of(task.zone)) {
    assignment.prefix_length = subnet->prefix_length;
    assignment.gateway = subnet->gateway;
  }
  const Deployment* deployment = nullptr;
  if (service != nullptr) {
    const auto found = std::ranges::find(service->deployments, task.deployment, &Deployment::id);
    if (found != service->deployments.end()) deployment = &*found;
  }
  if (deployment == nullptr) {
    // Nothing says any more what it runs, so that nobody wants it.
    assignment.desired = link::DesiredStatus::kStopped;
    return assignment;
  }
  assignment.containers = deployment->task.containers;
  if (!deployment->image_digest.empty() && !assignment.containers.empty())
    assignment.containers.front().image.reference = deployment->image_digest;
  for (link::Container& container : assignment.containers)
    container.log_stream = "instance/" + task.id.value;
  assignment.probe = deployment->task.probe;
  assignment.stop_timeout = deployment->task.stop_timeout;
  return assignment;
}

}  // namespace hob::cluster
