// Orders to the init of a task's microVM, over hob-vmm's socket. Blocking.
#pragma once

#include <filesystem>

#include "base/result.h"
#include "base/time.h"
#include "guest/protocol.h"

namespace hob::sandbox {

// Of a whole exchange, however the guest spreads its bytes.
inline constexpr Duration kOrderPatience{5'000};

// Answers when the guest has carried it out. kNotFound: no guest is there (any more). kTimeout: it
// does not answer. kInvalid: what it says.
Result<void> order_guest(const std::filesystem::path& bundle, const guest::Order& order,
                         Duration patience = kOrderPatience);

}  // namespace hob::sandbox
