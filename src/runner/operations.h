// A service's history of operations, bounded.
#pragma once

#include <string>

#include "base/async.h"
#include "base/result.h"
#include "store/store.h"

namespace hob::runner {

inline constexpr size_t kOperationsKept =
    100;  // of one service; older ones are forgotten as new ones begin

// Adds to `transaction` the removal of those that are too many once one more is added. Awaited by
// the caller, so that the reference holds.
Async<Result<void>> drop_old_operations(store::Store& store, std::string account,
                                        std::string service, store::Transaction& transaction);

}  // namespace hob::runner
