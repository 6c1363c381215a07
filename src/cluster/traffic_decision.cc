#include "cluster/traffic_decision.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace hob::cluster {

namespace {

bool shifts(const Deployment& deployment) {
  return deployment.configuration.strategy != DeploymentStrategy::kRolling;
}

double share(const Outcomes& outcomes) {
  return static_cast<double>(outcomes.failures) / static_cast<double>(outcomes.requests);
}

bool rose(const Outcomes& fresh, const Outcomes& old) {
  if (fresh.requests < kJudgedRequestsMin || fresh.failures < kFailuresMin) return false;
  if (old.requests == 0) return share(fresh) * 100 > static_cast<double>(kErrorAlonePercent);
  const double difference = share(fresh) - share(old);
  if (difference * 100 < static_cast<double>(kErrorMarginPercent)) return false;
  // Two proportions, pooled.
  const auto n = static_cast<double>(fresh.requests);
  const auto m = static_cast<double>(old.requests);
  const double pooled = static_cast<double>(fresh.failures + old.failures) / (n + m);
  const double deviation = std::sqrt(pooled * (1 - pooled) * (1 / n + 1 / m));
  return difference >= kErrorDeviations * deviation;
}

std::string told(const Outcomes& outcomes) {
  return fmt::format("{} of {} ({:.1f} %)", outcomes.failures, outcomes.requests,
                     share(outcomes) * 100);
}

}  // namespace

const Deployment* base_of(const Service& service) {
  for (const Deployment& deployment : service.deployments) {
    if (deployment.rollout == RolloutState::kCompleted && !deployment.kept_since)
      return &deployment;
  }
  return nullptr;
}

std::vector<Phase> phases_of(const DeploymentConfiguration& configuration) {
  std::vector<Phase> phases;
  if (configuration.strategy == DeploymentStrategy::kRolling) return phases;
  for (const TrafficStep& step : configuration.steps)
    phases.push_back({.percent = step.percent, .wait = step.wait});
  phases.push_back({.percent = 100, .wait = configuration.bake_time});
  return phases;
}

int percent_of(const Deployment& deployment) {
  const std::vector<Phase> phases = phases_of(deployment.configuration);
  if (deployment.step <= 0 || phases.empty()) return 0;
  return phases[std::min(static_cast<size_t>(deployment.step), phases.size()) - 1].percent;
}

std::optional<std::string> errors_rose(const VersionOutcomes& fresh, const VersionOutcomes& old) {
  const Outcomes& before = old.lately.requests >= kJudgedRequestsMin ? old.lately : old.all;
  // What fails since a minute ago shows in the one, what fails rarely and is asked rarely in the
  // other.
  for (const Outcomes& outcomes : {fresh.lately, fresh.all}) {
    if (!rose(outcomes, before)) continue;
    return fmt::format("Requests to the new version fail: {}; to the version before: {}",
                       told(outcomes), before.requests == 0 ? "not known" : told(before));
  }
  return std::nullopt;
}

TrafficNext decide_traffic(const Deployment& deployment, Instant now) {
  const auto last = static_cast<int>(phases_of(deployment.configuration).size());
  if (deployment.step < last && deployment.promoted) return {.step = last};
  if (deployment.step <= 0) return {.step = 1};
  const Duration wait =
      phases_of(deployment.configuration)[static_cast<size_t>(std::min(deployment.step, last)) - 1]
          .wait;
  const Instant at = deployment.step_at.value_or(now) + wait;
  if (now < at && !deployment.promoted) return {.at = at};
  if (deployment.step < last) return {.step = deployment.step + 1};
  return {.done = true};
}

std::map<DeploymentId, int> weights_of(const Service& service,
                                       const std::map<DeploymentId, int>& ready) {
  const auto tasks_of = [&ready](const Deployment& deployment) {
    const auto found = ready.find(deployment.id);
    return found == ready.end() ? 0 : found->second;
  };
  std::map<DeploymentId, int> weights;
  const Deployment* base = base_of(service);
  const Deployment* shifting = nullptr;
  int others = 0;
  for (const Deployment& each : service.deployments) {
    weights[each.id] = 0;
    const bool front = &each == &service.deployments.front();
    // Where nothing was completed, or serves, there is nobody to shift from.
    const bool has_base = base != nullptr && (each.step > 0 || tasks_of(*base) > 0);
    if (front && shifts(each) && has_base && each.rollout == RolloutState::kInProgress) {
      shifting = &each;
    } else if (!each.kept_since && !(shifts(each) && each.rollout == RolloutState::kFailed)) {
      weights[each.id] = tasks_of(each);
      others += tasks_of(each);
    }
  }
  if (shifting != nullptr && tasks_of(*shifting) > 0) {
    const int percent = percent_of(*shifting);
    for (auto& [id, weight] : weights) weight *= 100 - percent;
    weights[shifting->id] = others > 0 ? percent * others : 1;
  } else if (others == 0) {
    for (auto& [id, weight] : weights) {  // better than nobody
      const auto found = ready.find(id);
      if (found != ready.end()) weight = found->second;
    }
  }
  int divisor = 0;
  for (const auto& [id, weight] : weights) divisor = std::gcd(divisor, weight);
  for (auto& [id, weight] : weights) weight /= std::max(divisor, 1);
  return weights;
}

}  // namespace hob::cluster
