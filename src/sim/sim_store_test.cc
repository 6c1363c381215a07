// The simulator's store keeps the contract that all stores keep.
#include "sim/sim_store.h"

#include "store/store_suite.h"

namespace hob::store {
namespace {

// Its disk takes no time here: time stands still in this program.
struct Simulated {
  static constexpr bool kDurable = false;
  Result<std::unique_ptr<Store>> open(const Executor& executor) {
    return std::make_unique<sim::SimStore>(executor, random, kSuiteHistory);
  }
  sim::SeededRandom random{1, "store"};
};
INSTANTIATE_TYPED_TEST_SUITE_P(Simulated, StoreSuite, Simulated);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(DurableStoreSuite);

}  // namespace
}  // namespace hob::store
