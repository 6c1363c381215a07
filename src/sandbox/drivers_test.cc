// Both drivers against the suite of all. The microVM's needs a KVM that works and a kernel, so it
// is skipped where HOB_TEST_MICROVM does not name a directory with vmlinuz and initrd:
// tests/test_microvm_tasks.py makes such a machine.
#include <sys/wait.h>

#include <algorithm>
#include <cstdlib>

#include "sandbox/sandbox.h"
#include "sandbox/sandbox_suite_hostile.h"
#include "sandbox/sandbox_suite_jail.h"
#include "sandbox/sandbox_suite_life.h"
#include "sandbox/sandbox_suite_sleep.h"

namespace hob::sandbox {
namespace {

std::unique_ptr<Sandbox> make_container(const SandboxPlace& place, const Executor& executor,
                                        BlockingPool& pool) {
  return make_container_sandbox({.directory = place.directory,
                                 .instance = place.instance,
                                 .shared_directory = place.shared_directory},
                                executor, pool);
}

const char* kernel_directory() { return std::getenv("HOB_TEST_MICROVM"); }

std::unique_ptr<Sandbox> make_microvm(const SandboxPlace& place, const Executor& executor,
                                      BlockingPool& pool) {
  const std::filesystem::path kernel = kernel_directory();
  return make_microvm_sandbox({.directory = place.directory,
                               .instance = place.instance,
                               .kernel = kernel / "vmlinuz",
                               .initrd = kernel / "initrd",
                               .shared_directory = place.shared_directory},
                              executor, pool);
}

const Driver microvm{
    .name = "Microvm", .make = make_microvm, .here = [] { return kernel_directory() != nullptr; }};
const auto drivers = testing::Values(Driver{.name = "Container", .make = make_container}, microvm);
const auto name = [](const auto& info) { return std::string(info.param.name); };
INSTANTIATE_TEST_SUITE_P(Sandbox, SandboxSuite, drivers, name);
INSTANTIATE_TEST_SUITE_P(Sandbox, SleepSuite, drivers, name);
INSTANTIATE_TEST_SUITE_P(Sandbox, HostileSuite, drivers, name);
INSTANTIATE_TEST_SUITE_P(Sandbox, JailSuite, testing::Values(microvm), name);

}  // namespace
}  // namespace hob::sandbox
