// Hears of every key below a prefix, once, and of each change after that.
#pragma once

#include <functional>
#include <string>

#include "base/async.h"
#include "store/store.h"

namespace hob::runner {

// Until it is cancelled. A key may be told again without a change.
Async<> follow_keys(store::Store& store, std::string prefix,
                    std::function<void(const std::string& key)> changed);

}  // namespace hob::runner
