// The jail of one task's hob-vmm: what hob-jailer makes, with the task's files in it.
//
// Its root is a file system in memory that goes with the last process in it, so that a killed one
// leaves nothing behind; large enough for the program and no larger. In it are, by mounts that no
// other process sees: kernel, initrd, image and configuration (to read), the scratch disk, and the
// bundle's folder for sockets. Paths are the host's; the working directory is the bundle.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "base/result.h"

namespace hob::sandbox {

struct JailPlan {
  std::string id{};  // the task's
  std::string jailer{}, vmm{};
  uid_t user = 0;                // and group
  std::string file_bytes_max{};  // a number
  std::string network{};         // the namespace where the machine's tap is; empty: this one
  std::string kernel{}, initrd{}, image{};
  std::vector<std::string> cgroups{};  // the cgroup.procs of each
};

// In a process of its own, as root: becomes the jailed hob-vmm. Returns only if that failed.
Error execute_jailed(const JailPlan& plan);

}  // namespace hob::sandbox
