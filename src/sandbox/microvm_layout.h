// A microVM task's bundle, and what the agent and hob-vm-run agree on about it.
#pragma once

#include "base/time.h"

namespace hob::sandbox {

// Names in the bundle.
inline constexpr const char* kStartFile = "start.json";  // what hob-guest is told first
inline constexpr const char* kOutOfMemoryFile = "oom";   // the task ended for want of memory
inline constexpr const char* kJailFolder = "jail";       // where hob-vm-run makes the jail; empty
// In the bundle, and in the root of hob-vmm's jail.
inline constexpr const char* kMachineFile = "vm.json";         // hob-vmm's configuration
inline constexpr const char* kScratchFile = "scratch";         // the writable layer's disk
inline constexpr const char* kRunFolder = "run";               // sockets
inline constexpr const char* kVsockFile = "run/v";             // connections to the guest
inline constexpr const char* kApiSocketFile = "run/api.sock";  // hob-vmm's
// In the jail alone, from elsewhere.
inline constexpr const char* kKernelFile = "kernel";
inline constexpr const char* kInitrdFile = "initrd";
inline constexpr const char* kImageFile = "image";

// From the order to the program's execution. A kernel's start takes tenths of a second, but where
// KVM itself is emulated half a minute.
inline constexpr Duration kMicrovmStartTimeout = std::chrono::seconds(120);

}  // namespace hob::sandbox
