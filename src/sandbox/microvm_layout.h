// A microVM task's bundle, and what the agent and hob-vm-run agree on about it.
#pragma once

#include "base/time.h"

namespace hob::sandbox {

// Names in the bundle.
inline constexpr const char* kMachineFile = "vm.json";     // hob-vmm's configuration
inline constexpr const char* kStartFile = "start.json";    // what hob-guest is told first
inline constexpr const char* kVsockFile = "v";             // connections to the guest
inline constexpr const char* kApiSocketFile = "api.sock";  // hob-vmm's
inline constexpr const char* kScratchFile = "scratch";     // the writable layer's disk
inline constexpr const char* kOutOfMemoryFile = "oom";     // the task ended for want of memory

// From the order to the program's execution. A kernel's start takes tenths of a second, but where
// KVM itself is emulated half a minute.
inline constexpr Duration kMicrovmStartTimeout = std::chrono::seconds(120);

}  // namespace hob::sandbox
