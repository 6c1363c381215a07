#include "cluster/routes.h"

#include <algorithm>
#include <utility>

#include "cluster/task_state.h"

namespace hob::cluster {

namespace {

std::vector<link::Target> targets_of(const Service& service,
                                     const std::vector<const Task*>& tasks) {
  std::vector<link::Target> targets;
  for (const Task* task : tasks) {
    if (task->host.empty() || !is_present(*task) || task->desired != link::DesiredStatus::kRunning)
      continue;
    const bool draining = task->draining_since.has_value();
    if (!draining && !is_healthy(*task)) continue;
    const auto deployment =
        std::ranges::find(service.deployments, task->deployment, &Deployment::id);
    if (deployment == service.deployments.end()) continue;
    targets.push_back(
        {.task = task->id,
         .address = task->address,
         .port = deployment->task.port,
         .state = draining ? link::TargetState::kDraining : link::TargetState::kReady});
  }
  std::ranges::sort(targets, {}, &link::Target::task);
  return targets;
}

}  // namespace

std::vector<link::Route> decide_routes(
    const std::map<std::string, const Service*>& services,
    const std::map<std::string, std::vector<const Task*>>& tasks) {
  std::vector<link::Route> routes;
  for (const auto& [key, each] : services) {
    const Service& service = *each;
    const auto mine = tasks.find(key);
    link::Route route{.account = service.account,
                      .service = service.name,
                      .service_name = service.routing.service_name,
                      .host_names = service.routing.host_names,
                      .state = service.routing.state,
                      .max_concurrency = service.routing.max_concurrency,
                      .request_timeout = service.routing.request_timeout,
                      .idle_timeout = service.routing.idle_timeout,
                      .awake_min = service.routing.awake_min,
                      .sleep_after = service.routing.sleep_after,
                      .queue_timeout = service.routing.queue_timeout,
                      .protocol = service.routing.protocol};
    if (mine != tasks.end()) route.targets = targets_of(service, mine->second);
    if (service.status != ServiceStatus::kActive) route.host_names.clear();
    if (route.host_names.empty() && route.targets.empty()) continue;
    routes.push_back(std::move(route));
  }
  return routes;
}

}  // namespace hob::cluster
