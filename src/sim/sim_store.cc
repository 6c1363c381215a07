#include "sim/sim_store.h"

#include <utility>
#include <vector>

#include "store/memory_store.h"

namespace hob::sim {

SimStore::SimStore(const Executor& executor, SeededRandom& random, size_t history_changes_max)
    : executor_(executor),
      random_(random),
      inner_(store::make_memory_store(executor, history_changes_max)),
      scope_(executor) {}

SimStore::~SimStore() = default;

Async<Result<std::optional<store::Entry>>> SimStore::get(std::string key) {
  return inner_->get(std::move(key));
}
Async<Result<store::Listing>> SimStore::list(std::string prefix) {
  return inner_->list(std::move(prefix));
}
std::unique_ptr<store::Watch> SimStore::watch(std::string prefix, store::Revision from) {
  return inner_->watch(std::move(prefix), from);
}

Async<Result<store::Revision>> SimStore::commit(store::Transaction transaction) {
  if (down_) co_return fail(Code::kUnavailable, "control is dead");
  const auto mine = std::make_shared<Pending>(executor_);
  mine->transaction = std::move(transaction);
  pending_.push_back(mine);
  if (!std::exchange(writing_, true)) scope_.spawn("sim store", [this] { return write(); });
  co_await mine->done.wait();
  co_return std::move(*mine->result);
}

Async<> SimStore::write() {
  while (!pending_.empty()) {
    const size_t count = pending_.size();
    if (disk_.write_ms_max > 0) co_await sleep_for(Duration(random_.below(disk_.write_ms_max + 1)));
    const bool failed = random_.chance(disk_.fail_percent);
    for (size_t i = 0; i < count && !pending_.empty(); ++i) {
      const std::shared_ptr<Pending> next = pending_.front();
      pending_.pop_front();
      if (disk_.lose_commits && random_.chance(5))
        next->result = store::Revision{1};
      else if (failed)
        next->result = fail(Code::kUnavailable, "the disk failed");
      else
        next->result = co_await inner_->commit(std::move(next->transaction));
      next->done.set();
    }
  }
  writing_ = false;
}

void SimStore::crash() {
  down_ = true;
  const size_t kept = pending_.empty() ? 0 : random_.bits() % (pending_.size() + 1);
  std::deque<std::shared_ptr<Pending>> pending = std::exchange(pending_, {});
  pending.resize(kept);
  for (auto& each : pending) {
    scope_.spawn("sim store crash", [this, each]() -> Async<> {
      (void)co_await inner_->commit(std::move(each->transaction));
    });
  }
}

Async<> SimStore::stop() {
  scope_.cancel();
  co_await scope_.join();
}

}  // namespace hob::sim
