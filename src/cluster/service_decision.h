// The service controller's brain: what to do so that a service has its desired tasks of the right
// deployment.
//
// Pure. Rolling deployments follow ECS's arithmetic (L and U below); others start all tasks beside
// the old ones and shift the requests (traffic_decision.h). A new task counts once it is healthy
// *and* every edge routes to it, and an old one is stopped only after every edge has left it and
// its requests have ended. What served before may be kept for a while (Service::keep_previous); it
// takes part in nothing and makes way for what does. Where an image is named by a tag, a deployment
// starts with one task; the others follow when that one has said which image it found. What each
// thing means is told in records.h at Service.
#pragma once

#include <map>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "base/time.h"
#include "cluster/records.h"
#include "cluster/traffic_decision.h"

namespace hob::cluster {

inline constexpr int kFailedTasksMax = 3;       // in a row; then the deployment has failed
inline constexpr int kStartsPerStepMax = 100;   // tasks started at once; the rest at the next step
inline constexpr size_t kStoppedTasksMax = 20;  // STOPPED tasks of a service kept for describes
inline constexpr Duration kStoppedTaskKept{3'600'000};  // ECS keeps them for an hour
inline constexpr Duration kTaskStartMax{900'000};  // created to healthy; beyond: failed for good
inline constexpr Duration kReplaceUnhealthyAfter{
    30'000};                                     // longer than the host needs to start it again
inline constexpr Duration kDrainMax{3'600'000};  // where a service has no request timeout
inline constexpr Duration kRestartDelayMin{
    10'000};  // from the third failed task in a row on, doubling
inline constexpr Duration kRestartDelayMax{27 * 60'000};  // ECS's cap
static_assert(kStoppedTasksMax >=
              static_cast<size_t>(kFailedTasksMax));  // failures are counted from these records

// How requests reach a task, as the edges have it. A task not named: no edge has or had it.
struct Traffic {
  bool ready = false;  // every edge sends it requests
  bool gone = true;    // no edge sends it requests, or will by what it was told, and none of its
                       // requests is running
};

struct ServiceView {
  Service service{};
  std::vector<Task> tasks{};  // of this service, in any order
  std::map<TaskId, Traffic> traffic{};
  std::set<HostId> lost_hosts{};  // away for so long that their tasks are replaced (placement.h)
  bool edges_settled = true;      // false: control has just started and does not know its edges yet
  std::map<DeploymentId, VersionOutcomes> outcomes{};  // as edges tell; not named: nothing known
  bool crowded = false;  // some task, of whatever service, finds no room
};

struct StartTask {
  DeploymentId deployment{};
};
struct DrainTask {
  TaskId task{};
};  // out of the routes
struct StopTask {
  TaskId task{};
  StopCode code = StopCode::kServiceSchedulerInitiated;
  std::string reason{};
};
struct ForgetTask {
  TaskId task{};
};  // remove its record
struct PinImage {
  DeploymentId deployment{};
  std::string digest{};
};  // all further tasks run this image
struct CountFailures {
  DeploymentId deployment{};
  int failed_tasks = 0;
};
struct ShiftTraffic {
  DeploymentId deployment{};
  int step = 0;  // the n-th of its phases
};
struct CompleteDeployment {
  DeploymentId deployment{};
};
struct KeepDeployment {
  DeploymentId deployment{};
};  // another has taken its place: it is the way back
struct FailDeployment {
  DeploymentId deployment{};
  std::string reason{};
  std::vector<std::string> last_lines{};
};
struct DropDeployment {
  DeploymentId deployment{};
};
struct RemoveService {};
struct WakeAt {
  Instant at{};
};  // always later than the `now` it was decided at
using ServiceAction = std::variant<StartTask, DrainTask, StopTask, ForgetTask, PinImage,
                                   CountFailures, ShiftTraffic, CompleteDeployment, KeepDeployment,
                                   FailDeployment, DropDeployment, RemoveService, WakeAt>;

// In the order in which they should be applied, all at once; at most one WakeAt, the last. Empty:
// nothing to do until something in the view changes.
std::vector<ServiceAction> decide_service(const ServiceView& view, Instant now);

// ECS's bounds of a rollout (service model, DeploymentConfiguration): rounded up, and down.
int healthy_min(const Service& service);
int tasks_max(const Service& service);

}  // namespace hob::cluster
