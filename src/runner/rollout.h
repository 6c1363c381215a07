// A rollout's parts: the cluster deployment an operation makes, the steps it goes through, the way
// back. Pure builders for decide.h. Any thread.
#pragma once

#include <optional>
#include <string>

#include "base/time.h"
#include "cluster/records.h"
#include "runner/records.h"
#include "runner/strategy.h"

namespace hob::runner {

// Where hob:keep-previous is not set. As Heroku's releases and most people's second thoughts: soon.
inline constexpr Duration kKeepPrevious = std::chrono::minutes(15);

// Whether such an operation starts tasks, and may fail by them.
bool is_rollout(OperationType type);

// The cluster deployment an operation makes or brings back.
DeploymentId deployment_of(const Operation& operation);
// nullptr: cluster has none (any more).
const cluster::Deployment* deployment_in(const std::optional<cluster::Service>& service,
                                         const Operation& operation);

// What the service's tag says, for this operation: a roll-back has all requests as soon as its
// tasks are ready, whatever the tag.
Strategy strategy_of(const Service& service, const Operation& operation);
// As the tag says; the longest way back that it allows.
Duration keep_previous_of(const Service& service);
// min and max as the strategy has them, with room for one task more than must be healthy: with less
// a rollout could neither add one nor take one.
void set_bounds(cluster::Service& service, const Strategy& strategy);

// "r7-SUBDOMAIN.REGION.hob.localhost": a label beside the service's own, so that its certificate
// holds for it.
std::string revision_host_name(const Service& service, int revision);

// That revision, if it is kept and runs what `task` says; nullptr: it is started anew.
const cluster::Deployment* kept_deployment(const cluster::Service& service,
                                           const cluster::TaskTemplate& task, int revision);
// It is rolled out again, in front of the others.
void bring_back(cluster::Service& service, const DeploymentId& deployment,
                const cluster::DeploymentConfiguration& configuration);
// The operation's rollout is ended without effect.
void undo(cluster::Service& service, const Operation& operation, const std::string& reason,
          Instant now);

// From here on each deployment has settings of its own: those that an older version made have the
// routing's. Before that is changed. True: one had none.
bool settle_settings(cluster::Service& service);
// One that runs is served as the tags say now; what it speaks stays, that is its program's. True:
// that is news.
bool follow_tags(cluster::Service& service, const DeploymentId& deployment,
                 const link::RequestSettings& tags);

// What a deployment is at: "SCALE_UP", "PRODUCTION_TRAFFIC_SHIFT 10%", "BAKE_TIME".
std::string step_name(const cluster::Deployment& deployment);
// What a person is told of it; empty: nothing.
std::string step_line(const cluster::Deployment& deployment, int revision);
// The last step has ended so; nothing if there is none that goes on.
void end_step(Operation& operation, const std::string& result, Instant now);
// It is at this step now: the one before has succeeded. False: it was already.
bool begin_step(Operation& operation, const std::string& name, Instant now);

}  // namespace hob::runner
