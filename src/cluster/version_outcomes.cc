#include "cluster/version_outcomes.h"

#include <algorithm>

namespace hob::cluster {

namespace {

void add(Outcomes& sum, const Outcomes& more) {
  sum.requests += more.requests;
  sum.failures += more.failures;
}

// Counters only grow while an edge lives: a smaller one is of an edge that began anew.
Outcomes since(const Outcomes& now, const Outcomes& last) {
  if (now.requests < last.requests || now.failures < last.failures) return now;
  return {.requests = now.requests - last.requests, .failures = now.failures - last.failures};
}

}  // namespace

std::set<std::string> OutcomeTracker::reported(const EdgeId& edge, const link::EdgeReport& report,
                                               Instant now) {
  std::set<std::string> told;
  const bool known = edges_.contains(edge);
  if (!known && edges_.size() >= kOutcomeEdgesMax) forget_edge();
  edges_[edge] = now;
  if (report.versions.empty()) return told;
  std::erase_if(versions_,
                [now](const auto& item) { return now - item.second.told_at >= kOutcomesKept; });
  for (const link::VersionLoad& load : report.versions) {
    const auto key = std::pair(load.service, load.version);
    auto found = versions_.find(key);
    if (found == versions_.end()) {
      if (versions_.size() >= kVersionsMax) continue;
      found = versions_.try_emplace(key, Version{.begun_at = now, .told_at = now}).first;
    }
    Version& version = found->second;
    // A request cannot have failed that did not end.
    const Outcomes count{.requests = std::max<int64_t>(load.requests_total, 0),
                         .failures = std::clamp<int64_t>(
                             load.failures_total, 0, std::max<int64_t>(load.requests_total, 0))};
    const auto [last, fresh] = version.last.try_emplace(edge, count);
    // An edge that control did not know before counted on while it was away.
    const Outcomes more = !fresh ? since(count, last->second) : known ? count : Outcomes{};
    last->second = count;
    version.told_at = now;
    if (more.requests == 0 && more.failures == 0) continue;
    if (now - version.begun_at >= kOutcomesWindow) {
      version.before = now - version.begun_at >= 2 * kOutcomesWindow ? Outcomes{} : version.current;
      version.current = {};
      version.begun_at = now;
    }
    add(version.current, more);
    add(version.all, more);
    told.insert(load.service);
  }
  return told;
}

void OutcomeTracker::forget_edge() {
  const auto oldest =
      std::ranges::min_element(edges_, {}, [](const auto& item) { return item.second; });
  for (auto& [key, version] : versions_) version.last.erase(oldest->first);
  edges_.erase(oldest);
}

VersionOutcomes OutcomeTracker::of(const std::string& service, const DeploymentId& version) const {
  const auto found = versions_.find({service, version.value});
  if (found == versions_.end()) return {};
  VersionOutcomes outcomes{.lately = found->second.before, .all = found->second.all};
  add(outcomes.lately, found->second.current);
  return outcomes;
}

}  // namespace hob::cluster
