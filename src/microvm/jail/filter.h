// Which system calls a thread of the monitor may make: seccomp, on by default.
//
// A filter stays until the thread ends, is inherited by the threads that it makes, and can only be
// narrowed. Any other call raises SIGSYS, which ends the process with kExitForbidden and names the
// call. Where a call's arguments make a difference, they are looked at: no memory becomes code, no
// new process, no socket but of the unix domain. What io_uring does for a ring's owner no filter
// sees: so a ring is restricted when it is made (virtio/block_ring.h), and none is made once the
// machine runs; a drive that came later would have to do without.
#pragma once

#include <linux/filter.h>

#include <cstdint>
#include <vector>

#include "base/result.h"

namespace hob::microvm {

enum class ThreadKind {
  kApi,   // the loop before a machine runs: what configuring, booting and restoring take
  kVmm,   // the loop once it runs: devices, snapshots
  kVcpu,  // a CPU and the registers that it touches
};

inline constexpr int kExitForbidden = 148;  // Firecracker's

// For the calling thread. kUnavailable: the kernel has no filters.
Result<void> install_filter(ThreadKind kind);
// How SIGSYS ends the process. Once, before any filter.
void install_forbidden_handler();
// The filter's program. Pure.
std::vector<sock_filter> filter_program(ThreadKind kind);

}  // namespace hob::microvm
