// A task's file system as crun finds it, made in a mount namespace of its own.
//
// The calling thread leaves the machine's mount namespace for a copy of it and never comes back:
// give it a thread that ends. Programs that it starts, the monitor and through it the container,
// share the copy. So nothing of it appears in the machine's mounts, and all of it goes, loop device
// too, when the last of those processes ends, however it ends.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/result.h"

namespace hob::sandbox {

struct MountPlan {
  std::filesystem::path
      mount_point{};  // an empty directory that everyone may walk to; the same for all tasks
  std::filesystem::path hybrid_cgroup_tree{};   // taken away in the copy; empty: none
  std::filesystem::path network_namespace{};    // whose devices /sys shows
  std::vector<std::filesystem::path> layers{};  // top first
  uint32_t first_id = 0;                        // the host's number of the task's root
  Fd scratch{};                                 // detached mount of the writable layer's disk
};

struct TaskMounts {
  std::filesystem::path root{};  // the task's root: layers below, scratch above; ids are the task's
  std::filesystem::path
      files{};  // a directory on the scratch disk for files that are mounted into the task
  std::filesystem::path sys{};  // sysfs, read-only, of the task's network namespace
};

// kUnavailable, with what to do: the kernel cannot map the ids of a mount.
Result<TaskMounts> enter_task_mounts(MountPlan plan);

}  // namespace hob::sandbox
