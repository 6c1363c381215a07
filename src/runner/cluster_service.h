// What a runner service is underneath: pure builders of cluster's records. Any thread.
#pragma once

#include <optional>
#include <string>

#include "cluster/records.h"
#include "runner/images.h"
#include "runner/records.h"

namespace hob::runner {

inline constexpr int kPortDefault = 8080;

std::string application_log_group(const Service& service);  // "/aws/apprunner/NAME/ID/application"
std::string service_log_group(const Service& service);      // "/aws/apprunner/NAME/ID/service"

// The container gets its configuration's environment and PORT, unless that sets PORT itself. A
// start command takes the place of the image's CMD, not of its entry point. The configuration was
// validated when it was stored; should a stored start command not split, that is an error for the
// operation.
Result<cluster::TaskTemplate> task_template(const Service& service, const ResolvedImage& image);
bool same_template(const cluster::TaskTemplate& a, const cluster::TaskTemplate& b);

// `scaling`: the configuration's own; nullopt if it is gone, then AWS's defaults.
cluster::Routing routing_of(const Service& service,
                            const std::optional<AutoScalingConfiguration>& scaling,
                            link::RouteState state);
bool same_routing(const cluster::Routing& a, const cluster::Routing& b);
int desired_count_of(const std::optional<AutoScalingConfiguration>& scaling);

// The deployment that serves, or served last: the newest completed one, else the newest. nullptr:
// none.
const cluster::Deployment* last_that_ran(const cluster::Service& service);

}  // namespace hob::runner
