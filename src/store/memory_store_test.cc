#include "store/memory_store.h"

#include "store/store_suite.h"

namespace hob::store {
namespace {

struct Memory {
  static constexpr bool kDurable = false;
  Result<std::unique_ptr<Store>> open(const Executor& executor) {
    return make_memory_store(executor, kSuiteHistory);
  }
};
INSTANTIATE_TYPED_TEST_SUITE_P(Memory, StoreSuite, Memory);

}  // namespace
}  // namespace hob::store
