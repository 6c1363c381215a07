// The cgroups of containers inside the microVM (version 2): one a container, below the root.
#pragma once

#include <string>

#include "base/result.h"
#include "guest/protocol.h"

namespace hob::guest {

// Mounts the tree and hands the controllers down. Once.
Result<void> mount_cgroups();
// With the container's limits.
Result<void> make_cgroup(int index, const Container& container);
// The calling process, and what it starts.
Result<void> join_cgroup(int index);
// Did the kernel kill any of its processes for want of memory?
bool was_out_of_memory(int index);
void kill_cgroup(int index);

}  // namespace hob::guest
