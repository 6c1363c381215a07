// Which interfaces of the machine forward IPv4 on our behalf, and what they did before:
// /proc/sys/net/ipv4/conf/ <interface>/forwarding. Several instances may want the same one; the
// last to let go puts it back. Private to this room. The caller holds the shared directory's lock.
#pragma once

#include <filesystem>
#include <set>
#include <string>

#include "base/result.h"

namespace hob::network {

// Those of them that do not forward by themselves: off now, or on because an instance of ours
// turned them on.
Result<std::set<std::string>> lacking_forwarding(const std::filesystem::path& shared_directory,
                                                 const std::set<std::string>& interfaces);
// Turns forwarding on for these, which lack it. Idempotent.
Result<void> claim_forwarding(const std::filesystem::path& shared_directory,
                              const std::string& instance, const std::set<std::string>& lacking);
// Idempotent.
Result<void> release_forwarding(const std::filesystem::path& shared_directory,
                                const std::string& instance);

}  // namespace hob::network
