#include "store/memory_store.h"

#include <string>
#include <utility>
#include <vector>

#include "store/image.h"

namespace hob::store {

namespace {

class MemoryStore final : public Store {
 public:
  MemoryStore(Executor executor, size_t history_changes_max)
      : image_(std::move(executor), history_changes_max) {}

  Async<Result<std::optional<Entry>>> get(std::string key) override { co_return image_.get(key); }
  Async<Result<Listing>> list(std::string prefix) override { co_return image_.list(prefix); }
  Async<Result<Revision>> commit(Transaction transaction) override {
    HOB_CO_CHECK(check_limits(transaction));
    Plan plan(image_);
    HOB_CO_TRY(const Revision revision, plan.add(std::move(transaction)));
    image_.apply(plan.writes());
    co_return revision;
  }
  std::unique_ptr<Watch> watch(std::string prefix, Revision from) override {
    return image_.watch(std::move(prefix), from);
  }

 private:
  Image image_;
};

}  // namespace

std::unique_ptr<Store> make_memory_store(Executor executor, size_t history_changes_max) {
  return std::make_unique<MemoryStore>(std::move(executor), history_changes_max);
}

}  // namespace hob::store
