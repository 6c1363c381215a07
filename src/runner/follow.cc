#include "runner/follow.h"

#include <memory>

#include "base/log.h"

namespace hob::runner {
namespace {

constexpr Duration kRetryDelay{1'000};

}  // namespace

Async<> follow_keys(store::Store& store, std::string prefix,
                    std::function<void(const std::string& key)> changed) {
  for (;;) {
    auto listing = co_await store.list(prefix);
    if (!listing) {
      log::warn("runner: reading the store failed", {{"error", listing.error().message}});
      co_await sleep_for(kRetryDelay);
      continue;
    }
    for (const store::Entry& entry : listing->entries) changed(entry.key);
    const std::unique_ptr<store::Watch> watch = store.watch(prefix, listing->revision);
    for (;;) {
      const auto changes = co_await watch->next();
      if (!changes) break;  // too far behind: list again
      for (const store::Change& change : *changes) changed(change.key);
    }
  }
}

}  // namespace hob::runner
