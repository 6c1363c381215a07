// The store under the simulator: what is durable outlives control, what is on its way to the disk
// may be lost with it, and the disk may be slow or fail.
//
// Over store::make_memory_store, so that its semantics are the store's own. One writer takes what
// is committed in order, waits for the disk, and makes a batch visible at once, as SQLite's does.
// One loop.
#pragma once

#include <deque>
#include <functional>
#include <memory>

#include "base/async.h"
#include "sim/seeded_random.h"
#include "store/store.h"

namespace hob::sim {

struct Disk {
  int write_ms_max = 0;       // each batch takes up to so long
  int fail_percent = 0;       // of batches: kUnavailable
  bool lose_commits = false;  // a bug on purpose: some are answered and not written
};

class SimStore final : public store::Store {
 public:
  SimStore(const Executor& executor, SeededRandom& random,
           size_t history_changes_max = store::kHistoryChangesMax);
  ~SimStore() override;

  Async<Result<std::optional<store::Entry>>> get(std::string key) override;
  Async<Result<store::Listing>> list(std::string prefix) override;
  Async<Result<store::Revision>> commit(store::Transaction transaction) override;
  std::unique_ptr<store::Watch> watch(std::string prefix, store::Revision from) override;

  // Control is gone: of what waited for the disk, the first few are on it, the others are not; what
  // comes after from coroutines that have not heard yet is not written.
  void crash();
  // Another control begins.
  void reopen() { down_ = false; }
  Async<> stop();
  void set_disk(const Disk& disk) { disk_ = disk; }
  // What is durable.
  store::Store& durable() { return *inner_; }

 private:
  struct Pending {
    store::Transaction transaction{};
    std::optional<Result<store::Revision>> result{};
    Event done;
    explicit Pending(const Executor& executor) : done(executor) {}
  };
  Async<> write();

  Executor executor_;
  SeededRandom& random_;
  std::unique_ptr<store::Store> inner_;
  std::deque<std::shared_ptr<Pending>> pending_;
  bool writing_ = false;
  Disk disk_{};
  bool down_ = false;
  AsyncScope scope_;
};

}  // namespace hob::sim
