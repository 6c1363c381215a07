// What a runner service is underneath: pure builders of cluster's records. Any thread.
#pragma once

#include <optional>
#include <string>

#include "cluster/records.h"
#include "runner/images.h"
#include "runner/records.h"
#include "runner/scale.h"

namespace hob::runner {

inline constexpr int kPortDefault = 8080;
// docs/decisions/sleep.md: unset, and where the minimum size is 0.
inline constexpr Duration kSleepAfter{20'000};
inline constexpr Duration kSleepAfterStoppable{60'000};
// How long a request waits in the edge for a free task. Where it may have to wait for one to start,
// several starts' time (as Cloud Run's 3.5), and not less than the second.
inline constexpr Duration kQueueTimeout{10'000};
inline constexpr Duration kQueueTimeoutStoppable{30'000};
inline constexpr double kQueueStarts = 3.5;

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
// What the tags and the configuration allow.
ScaleLimits limits_of(const Service& service,
                      const std::optional<AutoScalingConfiguration>& scaling);

// What a service's task records tell the scaler.
struct Starts {
  int ready = 0;           // healthy, as in Fleet
  int starting = 0;        // wanted and not healthy yet
  int failed_in_row = 0;   // of the deployment that serves, since one became healthy
  std::string failure{};   // of these, the last one's, for people
  Duration start_time{0};  // the median, of those that became healthy; 0: none did
};
Starts starts_of(const cluster::Service& service, const std::vector<cluster::Task>& tasks);

// The deployment that serves, or served last: the newest completed one, else the newest. nullptr:
// none.
const cluster::Deployment* last_that_ran(const cluster::Service& service);

}  // namespace hob::runner
