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
    const std::string checked = probe.protocol == link::ProbeProtocol::kHttp
                                    ? fmt::format("HTTP GET {} on port {}", probe.path, probe.port)
                                    : fmt::format("TCP port {}", probe.port);
    return fmt::format(
        "{}: {} did not answer {} times in a row. Does the application listen on this port?",
        task.stopped_reason, checked, probe.unhealthy_threshold);
  }
  const std::string reason = task.stopped_reason.empty() ? "The task stopped" : task.stopped_reason;
  if (task.exit_code) return fmt::format("{} (exit code {})", reason, *task.exit_code);
  return reason;
}

}  // namespace hob::cluster
