// How a deployment takes the requests over, beyond one task for another: shares of them in steps,
// all of them, a time to prove itself; and whether it fails more of them than the version before.
//
// Pure; any thread. service_decision.h asks it for deployments whose strategy is not rolling.
// docs/decisions/deployments.md says why the numbers are what they are.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/time.h"
#include "cluster/records.h"

namespace hob::cluster {

// A new version fails its deployment when of kJudgedRequestsMin requests or more kFailuresMin or
// more failed, their share is kErrorMarginPercent points above the old version's, and by chance
// alone that would not be (kErrorDeviations standard deviations of the difference: it is looked at
// each second, so once in a thousand is too often).
inline constexpr int64_t kJudgedRequestsMin = 20;
inline constexpr int64_t kFailuresMin = 5;
inline constexpr int64_t kErrorMarginPercent = 2;
inline constexpr double kErrorDeviations = 4.0;
// Where nothing is known of the old version: more than this is wrong whatever that did.
inline constexpr int64_t kErrorAlonePercent = 25;

// What a rollout takes over from and goes back to: the newest completed one that is not just kept.
// nullptr: none.
const Deployment* base_of(const Service& service);

// A part of a deployment once its tasks are ready.
struct Phase {
  int percent = 100;  // of the requests
  Duration wait{0};
};
// The steps, then all requests for the bake time. Of a rolling one: empty.
std::vector<Phase> phases_of(const DeploymentConfiguration& configuration);
// The requests' share that the record gives it now, 0..100; a rolling one's follows its tasks.
int percent_of(const Deployment& deployment);

// Requests that ended, and those of them that failed (link::VersionLoad).
struct Outcomes {
  int64_t requests = 0;
  int64_t failures = 0;
};
struct VersionOutcomes {
  Outcomes lately{};  // of the last window in which it had requests (version_outcomes.h)
  Outcomes all{};
};
// nullopt: not worse than the old one, as far as one can tell. Else why, for people.
std::optional<std::string> errors_rose(const VersionOutcomes& fresh, const VersionOutcomes& old);

// What comes next for a deployment that shifts traffic; its tasks are ready, all of them.
struct TrafficNext {
  std::optional<int> step{};    // go there now
  bool done = false;            // it has succeeded
  std::optional<Instant> at{};  // not yet: then
};
TrafficNext decide_traffic(const Deployment& deployment, Instant now);

// Weights of a route's versions (link::RouteVersion), by deployment. `ready`: how many tasks each
// has that may get requests. One that shifts traffic has its share; the others, but for failed
// ones that shifted and kept ones, share the rest by their tasks. Where no other has a task, what
// has one gets all.
std::map<DeploymentId, int> weights_of(const Service& service,
                                       const std::map<DeploymentId, int>& ready);

}  // namespace hob::cluster
