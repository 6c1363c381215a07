#include <sys/wait.h>

#include <algorithm>

#include "sandbox/sandbox.h"
#include "sandbox/sandbox_suite_hostile.h"
#include "sandbox/sandbox_suite_life.h"
#include "sandbox/sandbox_suite_sleep.h"

namespace hob::sandbox {
namespace {

std::unique_ptr<Sandbox> make(const SandboxPlace& place, const Executor& executor,
                              BlockingPool& pool) {
  return make_container_sandbox({.directory = place.directory,
                                 .instance = place.instance,
                                 .shared_directory = place.shared_directory},
                                executor, pool);
}

const auto name = [](const auto& info) { return std::string(info.param.name); };
INSTANTIATE_TEST_SUITE_P(Sandbox, SandboxSuite, testing::Values(Driver{"Container", make}), name);
INSTANTIATE_TEST_SUITE_P(Sandbox, SleepSuite, testing::Values(Driver{"Container", make}), name);
INSTANTIATE_TEST_SUITE_P(Sandbox, HostileSuite, testing::Values(Driver{"Container", make}), name);

}  // namespace
}  // namespace hob::sandbox
