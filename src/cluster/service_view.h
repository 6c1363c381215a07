// The state of a service, counted from its records: what runner and the APIs show. Pure; any
// thread.
#pragma once

#include <string>
#include <vector>

#include "cluster/records.h"

namespace hob::cluster {

struct DeploymentState {
  DeploymentId id{};
  RolloutState rollout = RolloutState::kInProgress;
  std::string reason{};                   // why it failed, for people
  std::vector<std::string> last_lines{};  // of the task that failed last
  int pending = 0;                        // wanted, and not running yet
  int running = 0;                        // RUNNING, healthy or not
  int healthy = 0;                        // of those running
  int leaving = 0;                        // draining or stopping
  int failed = 0;                         // in a row
};

struct ServiceState {
  int desired = 0;
  int pending = 0;
  int running = 0;
  int healthy = 0;
  int leaving = 0;
  // ECS's ServicesStable: the newest deployment completed, nothing else going on, as many tasks
  // healthy as desired.
  bool stable = false;
  std::vector<DeploymentState> deployments{};  // newest first, as in the record
};

// `tasks`: the service's; others are not counted.
ServiceState state_of(const Service& service, const std::vector<Task>& tasks);

// What the newest deployment is doing now, for a person who waits: "placing", "pulling",
// "starting", "checking health", "routing", "draining the old version", "done", "failed".
std::string phase_of(const Service& service, const std::vector<Task>& tasks);

}  // namespace hob::cluster
