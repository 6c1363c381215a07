#include "runner/operations.h"

#include <algorithm>
#include <vector>

#include "base/log.h"
#include "runner/keys.h"
#include "runner/records.h"

namespace hob::runner {

Async<Result<void>> drop_old_operations(store::Store& store, std::string account,
                                        std::string service, store::Transaction& transaction) {
  HOB_CO_TRY(const store::Listing listing, co_await store.list(operations_of(account, service)));
  if (listing.entries.size() < kOperationsKept) co_return Result<void>();
  std::vector<std::pair<Instant, std::string>> by_age;
  for (const store::Entry& entry : listing.entries) {
    const auto operation = decode_operation(entry.value);
    // One that has not ended stays whatever its time says: clocks go back.
    if (operation && !operation->ended_at) continue;
    by_age.emplace_back(operation ? operation->started_at : Instant{}, entry.key);
  }
  std::ranges::sort(by_age);
  const size_t drop = listing.entries.size() - kOperationsKept + 1;
  for (size_t i = 0; i < std::min(drop, by_age.size()); ++i)
    transaction.remove.push_back(by_age[i].second);
  co_return Result<void>();
}

Async<Result<void>> drop_old_revisions(store::Store& store, std::string account,
                                       std::string service, int serves, int added,
                                       store::Transaction& transaction) {
  HOB_CO_TRY(const store::Listing listing, co_await store.list(revisions_of(account, service)));
  std::vector<std::pair<bool, std::string>> others;  // succeeded, key
  for (const store::Entry& entry : listing.entries) {
    const auto revision = decode_revision(entry.value);
    if (!revision) {  // left as it is: a newer version may read it
      log::error("record unreadable", {{"key", entry.key}, {"error", revision.error().message}});
      continue;
    }
    if (revision->number == serves || revision->number == added) continue;
    others.emplace_back(revision->state == RevisionState::kSucceeded, entry.key);
  }
  std::ranges::sort(others);
  const size_t room = kRevisionsKept - (serves == added || serves == 0 ? 1 : 2);
  for (size_t i = 0; i + room < others.size(); ++i) transaction.remove.push_back(others[i].second);
  co_return Result<void>();
}

}  // namespace hob::runner
