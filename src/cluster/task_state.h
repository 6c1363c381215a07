// Questions about one task, and what a host's report makes of it. Pure; any thread.
#pragma once

#include <string_view>

#include "base/time.h"
#include "cluster/records.h"
#include "link/messages.h"

namespace hob::cluster {

// Texts of ECS (facts: stoppedReason), which clients know.
inline constexpr std::string_view kReasonUnhealthy = "Task failed container health checks";
inline constexpr std::string_view kReasonStartTimeout = "Task did not become healthy in time";
inline constexpr std::string_view kReasonNoRoom =
    "RESOURCE:";  // what a task's reason begins with when nothing fits

// Whether all tasks of a deployment run one image, whatever happens to tags.
bool names_digest(const Deployment& deployment);

// Not STOPPED: it may hold its place and its address.
bool is_present(const Task& task);
// Present and meant to go on: neither being stopped nor drained.
bool is_wanted(const Task& task);
// Wanted, running and healthy: requests go to it.
bool is_healthy(const Task& task);
// Ended, or was ended, without ever having been healthy, by no wish of anybody: counts against its
// deployment.
bool is_failed(const Task& task);
// Whether starting it again would fail again: its image or program does not exist or may not be
// had, it listens where nobody asks, nothing fits. As its host says; an older one says it in words
// alone.
bool is_permanent_failure(const Task& task);

// The record after the report. Never goes backwards: a status only moves on, STOPPED is final, what
// control said about why it stopped is kept. A report for another task is a bug.
Task merged(Task task, const link::TaskReport& report, Instant now);

// What the host of this task is told; `service` nullptr: its record is gone, so that the task can
// only be stopped. Credentials are left empty. Not for tasks without a place.
link::Assignment assignment_of(const Task& task, const Service* service);

}  // namespace hob::cluster
