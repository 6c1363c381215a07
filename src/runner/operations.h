// A service's history, bounded: its operations and revisions.
#pragma once

#include <string>

#include "base/async.h"
#include "base/result.h"
#include "store/store.h"

namespace hob::runner {

inline constexpr size_t kOperationsKept =
    100;  // of one service; older ones are forgotten as new ones begin
inline constexpr size_t kRevisionsKept = 20;  // of one service; others cannot be rolled back to

// Adds to `transaction` the removal of those that are too many once one more is added. Awaited by
// the caller, so that the reference holds.
Async<Result<void>> drop_old_operations(store::Store& store, std::string account,
                                        std::string service, store::Transaction& transaction);

// Adds the removal of the revisions that are too many once one more is there, beyond
// kRevisionsKept: failed ones first, then the oldest; never `serves`, nor `added`. Awaited by the
// caller.
Async<Result<void>> drop_old_revisions(store::Store& store, std::string account,
                                       std::string service, int serves, int added,
                                       store::Transaction& transaction);

}  // namespace hob::runner
