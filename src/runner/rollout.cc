#include "runner/rollout.h"

#include <algorithm>

#include "cluster/routes.h"
#include "cluster/service_decision.h"
#include "runner/cluster_service.h"
#include "runner/extensions.h"

namespace hob::runner {

using cluster::DeploymentStrategy;
using cluster::RolloutState;

namespace {

// "13:45:10 UTC": a step waits a day at most.
std::string time_of_day(Instant at) { return iso8601(at).substr(11, 8) + " UTC"; }

}  // namespace

bool is_rollout(OperationType type) {
  return type == OperationType::kCreateService || type == OperationType::kUpdateService ||
         type == OperationType::kStartDeployment || type == OperationType::kResumeService;
}

DeploymentId deployment_of(const Operation& operation) {
  if (!operation.deployment.empty()) return DeploymentId{operation.deployment};
  std::string id = operation.id;
  std::erase(id, '-');
  return DeploymentId{std::move(id)};
}

const cluster::Deployment* deployment_in(const std::optional<cluster::Service>& service,
                                         const Operation& operation) {
  if (!service) return nullptr;
  const auto found =
      std::ranges::find(service->deployments, deployment_of(operation), &cluster::Deployment::id);
  return found != service->deployments.end() ? &*found : nullptr;
}

Strategy strategy_of(const Service& service, const Operation& operation) {
  if (operation.rolls_back_to != 0)
    return {.configuration = {.strategy = DeploymentStrategy::kBlueGreen}};
  // Tags are checked when they are set; what an older version let through is left out.
  const auto extensions = parse_extensions(service.tags);
  return extensions ? extensions->strategy.value_or(Strategy{}) : Strategy{};
}

Duration keep_previous_of(const Service& service) {
  const auto extensions = parse_extensions(service.tags);
  return extensions ? extensions->keep_previous.value_or(kKeepPrevious) : kKeepPrevious;
}

void set_bounds(cluster::Service& service, const Strategy& strategy) {
  service.minimum_healthy_percent = strategy.min_percent;
  service.maximum_percent = strategy.max_percent;
  const int desired = service.desired_count;
  if (desired <= 0 || tasks_max(service) > healthy_min(service)) return;
  service.maximum_percent = ((healthy_min(service) + 1) * 100 + desired - 1) / desired;
}

std::string revision_host_name(const Service& service, int revision) {
  return fmt::format("r{}-{}", revision, service.url);
}

const cluster::Deployment* kept_deployment(const cluster::Service& service,
                                           const cluster::TaskTemplate& task, int revision) {
  if (service.status != cluster::ServiceStatus::kActive) return nullptr;
  for (const cluster::Deployment& deployment : service.deployments) {
    // Another revision may run the same: it would come back under its own number and host name.
    // (0: an older version did not say.)
    if (!deployment.kept_since || (deployment.revision != 0 && deployment.revision != revision))
      continue;
    // A tag was pinned to what it meant: that is what it ran.
    cluster::TaskTemplate ran = deployment.task;
    if (!deployment.image_digest.empty() && !ran.containers.empty())
      ran.containers.front().image.reference = deployment.image_digest;
    if (same_template(ran, task)) return &deployment;
  }
  return nullptr;
}

void bring_back(cluster::Service& service, const DeploymentId& id,
                const cluster::DeploymentConfiguration& configuration) {
  const auto found = std::ranges::find(service.deployments, id, &cluster::Deployment::id);
  std::rotate(service.deployments.begin(), found, found + 1);
  cluster::Deployment& front = service.deployments.front();
  front.rollout = RolloutState::kInProgress;
  front.kept_since.reset();
  front.ended_at.reset();
  front.configuration = configuration;
  front.step = 0;
  front.step_at.reset();
  front.promoted = false;
}

void undo(cluster::Service& service, const Operation& operation, const std::string& reason,
          Instant now) {
  for (auto at = service.deployments.begin(); at != service.deployments.end(); ++at) {
    if (at->id != deployment_of(operation)) continue;
    at->ended_at = now;
    if (operation.deployment.empty()) {
      at->rollout = RolloutState::kFailed;
      at->reason = reason;
      return;
    }
    // It is what it was: the way back, behind what serves.
    at->rollout = RolloutState::kCompleted;
    at->kept_since = now;
    at->step = 0;
    std::rotate(at, at + 1, service.deployments.end());
    return;
  }
}

bool settle_settings(cluster::Service& service) {
  bool settled = false;
  for (cluster::Deployment& deployment : service.deployments) {
    if (deployment.settings) continue;
    deployment.settings = cluster::settings_of(service, deployment);
    settled = true;
  }
  return settled;
}

bool follow_tags(cluster::Service& service, const DeploymentId& deployment,
                 const link::RequestSettings& tags) {
  const auto found = std::ranges::find(service.deployments, deployment, &cluster::Deployment::id);
  if (found == service.deployments.end()) return false;
  link::RequestSettings wanted = tags;
  const link::RequestSettings has = cluster::settings_of(service, *found);
  wanted.protocol = has.protocol;
  if (found->settings == wanted) return false;
  found->settings = wanted;
  return wanted != has;
}

std::string step_name(const cluster::Deployment& deployment) {
  const std::vector<cluster::Phase> phases = phases_of(deployment.configuration);
  if (deployment.step <= 0 || phases.empty()) return "SCALE_UP";
  if (deployment.step >= static_cast<int>(phases.size()))
    return deployment.configuration.bake_time > Duration(0) ? "BAKE_TIME"
                                                            : "PRODUCTION_TRAFFIC_SHIFT 100%";
  return fmt::format("PRODUCTION_TRAFFIC_SHIFT {}%", percent_of(deployment));
}

std::string step_line(const cluster::Deployment& deployment, int revision) {
  const std::vector<cluster::Phase> phases = phases_of(deployment.configuration);
  if (deployment.step <= 0 || phases.empty()) return {};
  const auto at = std::min(static_cast<size_t>(deployment.step), phases.size()) - 1;
  const Duration wait = phases[at].wait;
  const std::string share = phases[at].percent == 100
                                ? std::string("All requests go")
                                : fmt::format("{}% of the requests go", phases[at].percent);
  if (wait == Duration(0)) return fmt::format("{} to revision {}.", share, revision);
  const std::string until =
      deployment.step_at ? fmt::format(" (until {})", time_of_day(*deployment.step_at + wait)) : "";
  return fmt::format("{} to revision {}, for {}{}{}.", share, revision, show(wait), until,
                     phases[at].percent == 100 ? " with the version before ready" : "");
}

void end_step(Operation& operation, const std::string& result, Instant now) {
  if (operation.steps.empty() || operation.steps.back().ended_at) return;
  operation.steps.back().result = result;
  operation.steps.back().ended_at = now;
}

bool begin_step(Operation& operation, const std::string& name, Instant now) {
  if (!operation.steps.empty() && operation.steps.back().name == name) return false;
  end_step(operation, word(OperationStatus::kSucceeded), now);
  operation.steps.push_back({.name = name, .started_at = now});
  return true;
}

}  // namespace hob::runner
