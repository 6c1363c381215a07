#include "cluster/service_view.h"

#include <algorithm>

#include "cluster/task_state.h"

namespace hob::cluster {

namespace {
bool of(const Service& service, const Task& task) {
  return task.account == service.account && task.cluster == service.cluster &&
         task.service == service.name;
}
}  // namespace

ServiceState state_of(const Service& service, const std::vector<Task>& tasks) {
  ServiceState state{.desired =
                         service.status == ServiceStatus::kActive ? service.desired_count : 0};
  for (const Deployment& deployment : service.deployments) {
    DeploymentState& counted =
        state.deployments.emplace_back(DeploymentState{.id = deployment.id,
                                                       .rollout = deployment.rollout,
                                                       .reason = deployment.reason,
                                                       .last_lines = deployment.last_lines,
                                                       .failed = deployment.failed_tasks});
    for (const Task& task : tasks) {
      if (!of(service, task) || task.deployment != deployment.id || !is_present(task)) continue;
      if (!is_wanted(task))
        ++counted.leaving;
      else if (task.status != TaskStatus::kRunning)
        ++counted.pending;
      else
        ++counted.running;
      if (is_healthy(task)) ++counted.healthy;
    }
    state.pending += counted.pending;
    state.running += counted.running;
    state.healthy += counted.healthy;
    state.leaving += counted.leaving;
  }
  state.stable = state.deployments.size() == 1 &&
                 state.deployments.front().rollout == RolloutState::kCompleted &&
                 state.healthy == state.desired && state.running == state.desired &&
                 state.pending == 0 && state.leaving == 0;
  return state;
}

std::string phase_of(const Service& service, const std::vector<Task>& tasks) {
  if (service.deployments.empty()) return "done";
  const Deployment& newest = service.deployments.front();
  if (newest.rollout == RolloutState::kCompleted) return "done";
  if (newest.rollout == RolloutState::kFailed) return "failed";
  int healthy = 0;
  const Task* behind = nullptr;  // the task that is furthest from being healthy
  for (const Task& task : tasks) {
    if (!of(service, task) || task.deployment != newest.id || !is_wanted(task)) continue;
    if (is_healthy(task)) {
      ++healthy;
      continue;
    }
    if (behind == nullptr || task.host.empty() || task.status < behind->status) behind = &task;
  }
  if (behind == nullptr && healthy < service.desired_count) return "placing";
  if (behind == nullptr) {
    const bool old = std::ranges::any_of(tasks, [&](const Task& task) {
      return of(service, task) && task.deployment != newest.id && is_present(task) &&
             task.draining_since;
    });
    return old ? "draining the old version" : "routing";
  }
  if (behind->host.empty()) return "placing";
  if (behind->status == TaskStatus::kRunning) return "checking health";
  return behind->image_digest.empty() ? "pulling" : "starting";
}

}  // namespace hob::cluster
