// Orders to the init of a task's microVM, over hob-vmm's socket. Blocking, for at most some
// seconds.
#pragma once

#include <filesystem>

#include "base/result.h"
#include "guest/protocol.h"

namespace hob::sandbox {

// Answers when the guest has carried it out. kNotFound: no guest is there (any more). kTimeout: it
// does not answer. kInvalid: what it says.
Result<void> order_guest(const std::filesystem::path& bundle, const guest::Order& order);

}  // namespace hob::sandbox
