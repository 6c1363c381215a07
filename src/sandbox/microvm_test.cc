// The microVM driver against the suite of all drivers. It needs a KVM that works and a kernel, so
// it runs where HOB_TEST_MICROVM names a directory with vmlinuz and initrd:
// tests/test_microvm_tasks.py makes such a machine.
#include <cstdlib>

#include "sandbox/sandbox.h"
#include "sandbox/sandbox_suite_hostile.h"
#include "sandbox/sandbox_suite_life.h"
#include "sandbox/sandbox_suite_sleep.h"

namespace hob::sandbox {
namespace {

const char* kernel_directory() { return std::getenv("HOB_TEST_MICROVM"); }

std::unique_ptr<Sandbox> make(const SandboxPlace& place, const Executor& executor,
                              BlockingPool& pool) {
  const std::filesystem::path kernel = kernel_directory();
  return make_microvm_sandbox({.directory = place.directory,
                               .instance = place.instance,
                               .kernel = kernel / "vmlinuz",
                               .initrd = kernel / "initrd"},
                              executor, pool);
}

const Driver kMicrovm{
    .name = "Microvm", .make = make, .here = [] { return kernel_directory() != nullptr; }};
const auto name = [](const auto& info) { return std::string(info.param.name); };
INSTANTIATE_TEST_SUITE_P(Microvm, SandboxSuite, testing::Values(kMicrovm), name);
INSTANTIATE_TEST_SUITE_P(Microvm, SleepSuite, testing::Values(kMicrovm), name);
INSTANTIATE_TEST_SUITE_P(Microvm, HostileSuite, testing::Values(kMicrovm), name);

}  // namespace
}  // namespace hob::sandbox
