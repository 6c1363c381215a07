// Stops all processes of one task's cgroup and lets them go on: the freezer of both versions.
//
// Version 1 says FREEZING until the last process stands still, and nothing tells when: it is looked
// at again, in growing steps. Version 2 tells in cgroup.events. Any thread: a thaw does not wait
// for a freeze under way, it calls it off.
#pragma once

#include <filesystem>
#include <mutex>

#include "base/file.h"
#include "base/result.h"
#include "base/time.h"
#include "sandbox/cgroups.h"

namespace hob::sandbox {

class Freezer {
 public:
  enum class State { kThawed, kFreezing, kFrozen };

  // `cgroup`: the task's directory, on version 1 below the freezer controller's mount.
  Freezer(CgroupVersion version, std::filesystem::path cgroup);

  // Says that freeze() shall be done; a thaw() between the two calls it off. Does not block.
  void ask_freeze();
  // Returns when nothing of it runs; it may take up to kFreezeTimeout, and is blocking. After an
  // error everything runs (again). kNotFound: no such cgroup (any more). kTimeout: a process did
  // not stand still. kCancelled: thaw() came after ask_freeze(), or it was never asked for.
  Result<void> freeze();
  // Two system calls. No error if it is not frozen, or gone.
  Result<void> thaw();
  // kNotFound: no such cgroup.
  Result<State> state() const;

 private:
  Result<void> stand_still();
  // Whether it is still wanted frozen: then the order is given (again).
  Result<bool> order_freeze();
  // Until it may have changed.
  Result<void> wait(const Fd& events, Duration step) const;

  CgroupVersion version_;
  std::filesystem::path order_;  // where the order is written
  std::filesystem::path events_;
  std::mutex mutex_;  // an order and what we know of it change together
  bool wanted_ = false;
};

}  // namespace hob::sandbox
