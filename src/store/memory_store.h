// A store without a disk, for simulations and for tests of rooms above: same contract, but nothing
// outlives it.
#pragma once

#include <memory>

#include "base/async.h"
#include "store/store.h"

namespace hob::store {

// Belongs to `executor`'s loop; must outlive its watches.
std::unique_ptr<Store> make_memory_store(Executor executor,
                                         size_t history_changes_max = kHistoryChangesMax);

}  // namespace hob::store
