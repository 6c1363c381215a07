// The microVM as its init finds it and makes it: kernel's file systems, modules, a root of its own,
// the network, the clock, the end.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "guest/protocol.h"

namespace hob::guest {

// Mounts /proc, /sys, /dev; loads the modules in /modules in the order of their names; moves to a
// root in memory and gives the initial RAM disk's memory back. Once, first.
Result<void> set_up_machine();
// Loopback alone where there is no network.
Result<void> set_up_network(const std::optional<Network>& network);
// Where it is off by more than some milliseconds.
Result<void> set_clock(int64_t nanoseconds_since_1970);
// Resets the machine, which ends its monitor.
[[noreturn]] void end_machine();

}  // namespace hob::guest
