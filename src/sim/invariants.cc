// What must be so after every step, whatever has failed: a named function each, over what is really
// so on the machines and in the store.
#include <algorithm>

#include "cluster/service_decision.h"
#include "cluster/task_state.h"
#include "runner/keys.h"
#include "sim/region.h"

namespace hob::sim {

// A task runs on at most one host, whatever the store or either agent believes.
std::optional<Violation> no_task_on_two_hosts(const Region& region) {
  std::map<std::string, std::string> where;
  for (const auto& host : region.hosts()) {
    for (const auto& [task, container] : host->machine->containers()) {
      if (!container->runs()) continue;
      const auto [at, fresh] = where.emplace(task, host->name);
      if (!fresh) {
        return Violation{
            "no task runs on two hosts",
            fmt::format("{} runs on {} and {}", task.substr(0, 8), at->second, host->name)};
      }
    }
  }
  return std::nullopt;
}

// An address leads to one task: a request never reaches somebody else's.
std::optional<Violation> no_two_tasks_with_one_address(const Region& region) {
  std::map<std::string, std::string> owner;
  for (const auto& host : region.hosts()) {
    for (const auto& [task, container] : host->machine->containers()) {
      if (!container->runs()) continue;
      const auto [at, fresh] = owner.emplace(container->address, task);
      if (!fresh && at->second != task) {
        return Violation{"no two tasks have one address",
                         fmt::format("{} is {}'s and {}'s", container->address,
                                     at->second.substr(0, 8), task.substr(0, 8))};
      }
    }
  }
  return std::nullopt;
}

// A service that is PAUSED costs nothing, but for the moment that its tasks need to be told so: a
// resumption that failed leaves some.
std::optional<Violation> paused_services_have_no_tasks(Region& region) {
  constexpr int64_t kToldWithinUs = 120'000'000;
  std::map<std::string, int64_t>& since = region.paused_since_us();
  std::erase_if(since, [&](const auto& item) {
    const auto* service = region.observed().service(item.first);
    return service == nullptr || service->status != runner::ServiceStatus::kPaused;
  });
  for (const auto& [id, service] : region.observed().services()) {
    if (service.status != runner::ServiceStatus::kPaused) continue;
    const int64_t began = since.try_emplace(id, virtual_time::now_us()).first->second;
    if (virtual_time::now_us() - began < kToldWithinUs) continue;
    for (const auto& [task_id, task] : region.observed().tasks()) {
      if (task.service == id && task.desired == link::DesiredStatus::kRunning &&
          task.status != link::TaskStatus::kStopped) {
        return Violation{"a paused service has no tasks",
                         fmt::format("{} wants {}", service.name, task_id.value.substr(0, 8))};
      }
    }
  }
  return std::nullopt;
}

// A service never wants more tasks than any configuration allows; what its own does is seen when it
// has settled.
std::optional<Violation> sizes_are_within_their_limits(const Region& region) {
  for (const auto& [id, cluster] : region.observed().cluster_services()) {
    if (cluster.desired_count < 0 || cluster.desired_count > 25) {
      return Violation{"sizes are within their limits",
                       fmt::format("{} wants {} tasks", id.substr(0, 8), cluster.desired_count)};
    }
  }
  return std::nullopt;
}

namespace {

// Tasks of a service that an edge sends requests to, by its table and the machines.
struct Serving {
  int all = 0;
  // The most that one version alone has, but for tasks that are to go, and for a version that
  // requests are shifted to: they may go back.
  int sure = 0;
};

Serving serving_at(const Region& region, const SimEdge& edge, const std::string& service,
                   const std::string& shifting_to) {
  Serving serving;
  const auto& routes = edge.table().routes;
  const auto route = std::ranges::find(routes, service, &link::Route::service);
  if (route == routes.end()) return serving;
  std::map<std::string, int> sure;  // by version
  for (const link::Target& target : route->targets) {
    // A version without a share is the way back, or is to come.
    const bool idle = std::ranges::any_of(route->versions, [&](const link::RouteVersion& version) {
      return version.id == target.version && version.weight == 0;
    });
    const auto task = region.observed().tasks().find(target.task);
    const bool shifting = target.version == shifting_to;
    const bool runs = std::ranges::any_of(region.hosts(), [&](const auto& host) {
      const auto& containers = host->machine->containers();
      const auto container = containers.find(target.task.value);
      return container != containers.end() && container->second->runs();
    });
    if (target.state != link::TargetState::kReady || idle || !runs ||
        task == region.observed().tasks().end() || task->second.health != link::Health::kHealthy)
      continue;
    ++serving.all;
    int& of_version = sure[target.version];
    if (!shifting && cluster::is_healthy(task->second))
      serving.sure = std::max(serving.sure, ++of_version);
  }
  return serving;
}

}  // namespace

// Without faults, a rollout never leaves fewer tasks in use than its minimum: once so many served
// at every edge, so many go on serving, until fewer are wanted.
std::optional<Violation> rollouts_keep_what_is_promised(Region& region) {
  if (!region.faults().gentle()) return std::nullopt;
  for (const auto& [id, cluster] : region.observed().cluster_services()) {
    int& floor = region.floors()[id];
    const auto* service = region.observed().service(id);
    // A first deployment that fails leaves nothing.
    const bool ran = std::ranges::any_of(cluster.deployments, [](const auto& deployment) {
      return deployment.rollout == cluster::RolloutState::kCompleted;
    });
    const bool stays = ran && cluster.status == cluster::ServiceStatus::kActive &&
                       service != nullptr && cluster.routing.state == link::RouteState::kServing;
    const int promised = stays ? cluster::healthy_min(cluster) : 0;
    const cluster::Deployment* newest =
        cluster.deployments.empty() ? nullptr : &cluster.deployments.front();
    const bool shifts = newest != nullptr && newest->rollout != cluster::RolloutState::kCompleted &&
                        newest->configuration.strategy != cluster::DeploymentStrategy::kRolling;
    const std::string shifting_to = shifts ? newest->id.value : "none";
    Serving least{.all = promised, .sure = promised};
    for (const auto& edge : region.edges()) {
      const Serving here = serving_at(region, *edge->edge, id, shifting_to);
      least = {.all = std::min(least.all, here.all), .sure = std::min(least.sure, here.sure)};
    }
    floor = std::min(floor, promised);
    if (least.all < floor) {
      return Violation{"a rollout keeps what is promised",
                       fmt::format("{} of {} tasks of {} serve", least.all, floor, service->name)};
    }
    floor = std::max(floor, least.sure);
  }
  return std::nullopt;
}

// What the API answered with success is there, whatever crashed: services and operations.
std::optional<Violation> no_acknowledged_record_is_lost(const Region& region) {
  for (const ClientService& client : region.clients()) {
    if (client.id.empty()) continue;
    const auto* service = region.observed().service(client.id);
    if (service == nullptr) {
      if (client.delete_asked) continue;
      return Violation{"no acknowledged write is lost", client.arn + " is not there"};
    }
    for (const std::string& id : client.operations) {
      if (region.observed().operations().contains(id)) continue;
      return Violation{"no acknowledged write is lost",
                       fmt::format("operation {} of {} is not there", id, service->name)};
    }
  }
  return std::nullopt;
}

// So is what the last update that succeeded has set, once all has settled.
std::optional<Violation> no_acknowledged_update_is_lost(const Region& region) {
  for (const ClientService& client : region.clients()) {
    const auto* service = region.observed().service(client.id);
    if (service == nullptr) continue;
    const auto update = region.observed().operations().find(client.last_update);
    if (update == region.observed().operations().end() ||
        update->second.status != runner::OperationStatus::kSucceeded || client.delete_asked)
      continue;
    const auto value = service->configuration.environment.find("VALUE");
    const std::string wanted = std::to_string(client.last_value);
    if (value == service->configuration.environment.end() || value->second != wanted) {
      return Violation{
          "no acknowledged write is lost",
          fmt::format("{} has VALUE {}, its update said {}", service->name,
                      value == service->configuration.environment.end() ? "unset" : value->second,
                      wanted)};
    }
  }
  return std::nullopt;
}

namespace {
const char* const kSettles = "everything settles once faults end";
const char* const kNothingLeft = "nothing is left after a deletion";
const char* const kTasksEnd = "a task that is told to stop ends";
const char* const kContainersEnd = "no container outlives its task";
}  // namespace

// Nothing is under way, and the store, the hosts and the edges agree.
std::optional<Violation> Region::not_quiet() const {
  std::map<std::string, int> healthy;
  std::set<std::string> present;
  for (const auto& [id, task] : observed_->tasks()) {
    if (!cluster::is_present(task)) continue;
    present.insert(id.value);
    if (task.desired == link::DesiredStatus::kStopped)
      return Violation{kTasksEnd, fmt::format("task {} is stopping", id.value.substr(0, 8))};
    if (task.draining_since)
      return Violation{kSettles, fmt::format("task {} drains", id.value.substr(0, 8))};
    if (cluster::is_healthy(task)) ++healthy[task.service];
  }
  for (const auto& [id, service] : observed_->services()) {
    if (!service.operation.empty())
      return Violation{
          kSettles, fmt::format("{} has operation {} under way", service.name, service.operation)};
  }
  for (const auto& [key, scaling] : observed_->scalings()) {
    for (const auto& [id, service] : observed_->services()) {
      const auto* cluster = observed_->cluster_service(id);
      if (cluster == nullptr || service.configuration.scaling.id != scaling.id) continue;
      if (cluster->desired_count > scaling.max_size)
        return Violation{kSettles, fmt::format("{} wants {} tasks of {} at most", service.name,
                                               cluster->desired_count, scaling.max_size)};
    }
  }
  for (const auto& [id, cluster] : observed_->cluster_services()) {
    for (const auto& deployment : cluster.deployments) {
      if (deployment.rollout == cluster::RolloutState::kInProgress)
        return Violation{kSettles, fmt::format("{} rolls out", id.substr(0, 8))};
    }
    // A full region has no room for all, and an image that fails is tried again for ever.
    const bool may_fail = faults_.full_hosts || faults_.bad_images_percent > 0;
    if (healthy[id] != cluster.desired_count && !may_fail)
      return Violation{kSettles, fmt::format("{} has {} of {} tasks", id.substr(0, 8), healthy[id],
                                             cluster.desired_count)};
  }
  for (const auto& host : hosts_) {
    for (const auto& [task, container] : host->machine->containers()) {
      if (!present.contains(task))
        return Violation{kContainersEnd, fmt::format("{} has {}, which the store has not",
                                                     host->name, task.substr(0, 8))};
    }
  }
  for (const auto& edge : edges_) {
    if (!edge->edge->linked()) return Violation{kSettles, edge->name + " has no link"};
    if (edge->edge->table().version != edges_.front()->edge->table().version)
      return Violation{kSettles, "edges have different tables"};
    for (const auto& route : edge->edge->table().routes) {
      for (const auto& target : route.targets) {
        if (!present.contains(target.task.value))
          return Violation{kSettles, fmt::format("{} routes to {}, which the store has not",
                                                 edge->name, target.task.value.substr(0, 8))};
      }
    }
    if (edge->edge->in_flight() > 0) return Violation{kSettles, edge->name + " has requests"};
  }
  return std::nullopt;
}

// Of deleted services nothing is left but what a describe still answers.
std::optional<Violation> Region::not_gone() const {
  for (const auto& [id, service] : observed_->services()) {
    if (service.status != runner::ServiceStatus::kDeleted)
      return Violation{kNothingLeft,
                       fmt::format("{} is {}", service.name, runner::word(service.status))};
  }
  for (const auto& [id, cluster] : observed_->cluster_services())
    return Violation{kNothingLeft, "cluster still has service " + id.substr(0, 8)};
  for (const auto& [id, task] : observed_->tasks())
    return Violation{kNothingLeft,
                     fmt::format("cluster still has task {}, status {}, desired {}, on '{}'",
                                 id.value.substr(0, 8), static_cast<int>(task.status),
                                 static_cast<int>(task.desired), task.host.value)};
  for (const auto& [key, entry] : observed_->entries()) {
    if (key.starts_with(runner::kNamesPrefix) || key.starts_with(runner::kSubdomainsPrefix))
      return Violation{kNothingLeft, key + " is still taken"};
  }
  for (const auto& host : hosts_) {
    if (!host->machine->containers().empty())
      return Violation{kNothingLeft,
                       fmt::format("{} still has {}", host->name,
                                   host->machine->containers().begin()->first.substr(0, 8))};
    if (!host->machine->networks().empty())
      return Violation{kNothingLeft, fmt::format("{} still has the network of {}", host->name,
                                                 host->machine->networks().begin()->substr(0, 8))};
    if (host->agent && !std::filesystem::is_empty(host->directory / "tasks"))
      return Violation{kNothingLeft, host->name + " still has a task's file"};
  }
  for (const auto& edge : edges_) {
    if (!edge->edge->table().routes.empty())
      return Violation{kNothingLeft, edge->name + " still has a route"};
  }
  return std::nullopt;
}

}  // namespace hob::sim
