#include "cluster/routes.h"

#include <algorithm>
#include <utility>

#include "cluster/keys.h"
#include "cluster/task_state.h"
#include "cluster/traffic_decision.h"

namespace hob::cluster {

namespace {

// A version's tasks that are awake without visitors: as many as the route's, but none of one that
// gets no requests, and all of one that is about to.
int awake_min_of(const Service& service, const Deployment& deployment, int weight) {
  if (weight > 0) return service.routing.awake_min;
  const bool is_next = &deployment == &service.deployments.front() &&
                       deployment.rollout == RolloutState::kInProgress;
  return is_next ? -1 : 0;
}

// Of the versions that have targets, where edges have to tell them apart.
std::vector<link::RouteVersion> versions_of(const Service& service,
                                            const std::vector<link::Target>& targets) {
  std::map<DeploymentId, int> ready;
  for (const link::Target& target : targets)
    ready[DeploymentId{target.version}] += target.state == link::TargetState::kReady ? 1 : 0;
  const std::map<DeploymentId, int> weights = weights_of(service, ready);
  std::vector<link::RouteVersion> versions;
  bool named = false;
  for (const Deployment& deployment : service.deployments) {
    if (!ready.contains(deployment.id)) continue;
    const int weight = weights.at(deployment.id);
    named = named || !deployment.host_names.empty();
    versions.push_back({.id = deployment.id.value,
                        .weight = weight,
                        .host_names = deployment.host_names,
                        .awake_min = awake_min_of(service, deployment, weight),
                        .settings = settings_of(service, deployment)});
  }
  if (versions.size() < 2 && !named) versions.clear();
  return versions;
}

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
    targets.push_back({.task = task->id,
                       .address = task->address,
                       .port = deployment->task.port,
                       .state = draining ? link::TargetState::kDraining : link::TargetState::kReady,
                       .zone = task->zone,
                       .version = deployment->id.value});
  }
  std::ranges::sort(targets, {}, &link::Target::task);
  return targets;
}

link::RequestSettings settings_of(const Routing& routing) {
  return {.protocol = routing.protocol,
          .request_timeout = routing.request_timeout,
          .idle_timeout = routing.idle_timeout,
          .sticky = routing.sticky};
}

// Of the version that serves: what edges of an older version go by for all of them.
link::RequestSettings settings_of(const Service& service) {
  if (service.deployments.empty()) return settings_of(service.routing);
  const auto serves =
      std::ranges::find(service.deployments, RolloutState::kCompleted, &Deployment::rollout);
  return settings_of(service,
                     serves != service.deployments.end() ? *serves : service.deployments.front());
}

}  // namespace

link::RequestSettings settings_of(const Service& service, const Deployment& deployment) {
  return deployment.settings.value_or(settings_of(service.routing));
}

std::vector<link::Route> decide_routes(
    const std::map<std::string, const Service*>& services,
    const std::map<std::string, std::vector<const Task*>>& tasks) {
  std::vector<link::Route> routes;
  for (const auto& [key, each] : services) {
    const Service& service = *each;
    const auto mine = tasks.find(key);
    const link::RequestSettings settings = settings_of(service);
    link::Route route{.account = service.account,
                      .service = service.name,
                      .service_name = service.routing.service_name,
                      .host_names = service.routing.host_names,
                      .state = service.routing.state,
                      .max_concurrency = service.routing.max_concurrency,
                      .request_timeout = settings.request_timeout,
                      .idle_timeout = settings.idle_timeout,
                      .awake_min = service.routing.awake_min,
                      .sleep_after = service.routing.sleep_after,
                      .queue_timeout = service.routing.queue_timeout,
                      .protocol = settings.protocol,
                      .sticky = settings.sticky};
    if (mine != tasks.end()) route.targets = targets_of(service, mine->second);
    route.versions = versions_of(service, route.targets);
    if (route.versions.empty()) {
      for (link::Target& target : route.targets) target.version.clear();
    }
    if (service.status != ServiceStatus::kActive) {
      route.host_names.clear();
      for (link::RouteVersion& version : route.versions) version.host_names.clear();
    }
    if (route.host_names.empty() && route.targets.empty()) continue;
    routes.push_back(std::move(route));
  }
  return routes;
}

std::string shown_id(std::string_view account, std::string_view certificate) {
  return std::string(account).append("/").append(certificate);
}

std::vector<link::EdgeCertificate> decide_certificates(
    const std::map<std::string, const Service*>& services,
    const std::map<std::string, const Certificate*>& certificates) {
  std::map<std::string, std::vector<std::string>> shown;  // host names, by the certificate's key
  for (const auto& [key, service] : services) {
    if (service->status != ServiceStatus::kActive) continue;
    for (const auto& [host, id] : service->routing.certificates)
      shown[certificate_key(service->account, id)].push_back(host);
  }
  std::vector<link::EdgeCertificate> told;
  for (auto& [key, host_names] : shown) {
    const auto found = certificates.find(key);
    if (found == certificates.end()) continue;
    const Certificate& certificate = *found->second;
    std::ranges::sort(host_names);
    told.push_back({.id = shown_id(certificate.account, certificate.id),
                    .host_names = std::move(host_names),
                    .certificate = certificate.certificate,
                    .key = certificate.key,
                    .staple = certificate.staple,
                    .staple_until = certificate.staple_until});
  }
  return told;
}

}  // namespace hob::cluster
