// Whether a deployment has failed, from its tasks. Pure; any thread.
#pragma once

#include <string>
#include <vector>

#include "cluster/records.h"

namespace hob::cluster {

// Failed tasks in a row: those made after the last one that became healthy.
struct Failures {
  int count = 0;
  const Task* last = nullptr;
};
// `tasks`: of its service, oldest first.
Failures failures_of(const DeploymentId& deployment, const std::vector<const Task*>& tasks);

// A task's stop reason with what a person needs to act on it.
std::string explained(const Task& task, const TaskTemplate& wanted_task);

}  // namespace hob::cluster
