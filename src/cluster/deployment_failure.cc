#include "cluster/deployment_failure.h"

#include "cluster/task_state.h"

namespace hob::cluster {

Failures failures_of(const DeploymentId& deployment, const std::vector<const Task*>& tasks) {
  Failures failures;
  for (const Task* task : tasks) {
    if (task->deployment != deployment) continue;
    if (task->was_healthy)
      failures = {};
    else if (is_failed(*task))
      failures = {.count = failures.count + 1, .last = task};
  }
  return failures;
}

std::string explained(const Task& task, const TaskTemplate& wanted_task) {
  if (task.stopped_reason.starts_with(kReasonUnhealthy) && wanted_task.probe) {
    const link::Probe& probe = *wanted_task.probe;
    std::string_view found = std::string_view(task.stopped_reason).substr(kReasonUnhealthy.size());
    if (const size_t text = found.find_first_not_of(":; "); text != std::string_view::npos)
      found.remove_prefix(text);
    else
      found = "it was not healthy within the time for its start";
    return fmt::format("Health check failed on protocol `{}`{} [Port: '{}'], {} times in a row: {}",
                       probe.protocol == link::ProbeProtocol::kHttp ? "HTTP" : "TCP",
                       probe.protocol == link::ProbeProtocol::kHttp
                           ? fmt::format(" [Path: '{}']", probe.path)
                           : "",
                       probe.port, probe.unhealthy_threshold, found);
  }
  const std::string reason = task.stopped_reason.empty() ? "The task stopped" : task.stopped_reason;
  if (task.exit_code) return fmt::format("{} (exit code {})", reason, *task.exit_code);
  return reason;
}

}  // namespace hob::cluster
