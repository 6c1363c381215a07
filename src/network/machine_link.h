// The way from a task's network namespace to a virtual machine that is the task: a tap device, with
// the namespace's eth0 on one bridge.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hob::network {

inline constexpr std::string_view kMachineTap = "tap0";

// Makes it in the namespace at `handle` (of Vpc::attach), to be opened by the user `owner`, who
// needs no right but that. The machine then has the task's address
// to itself, by way of any of the VPC's gateways, without a route for the prefix: nothing in the
// namespace answers for it. Idempotent. kUnavailable: the kernel has no bridges or taps. Blocks,
// shortly.
Result<void> link_machine(const std::filesystem::path& handle, uid_t owner);

// A locally administered hardware address for the machine that has this IPv4 address:
// "06:00:c6:12:00:11".
std::string machine_hardware_address(std::string_view address);

}  // namespace hob::network
