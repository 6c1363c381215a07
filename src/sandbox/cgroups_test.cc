#include "sandbox/cgroups.h"

#include <gtest/gtest.h>

#include "base/file.h"

namespace hob::sandbox {
namespace {

TEST(Cgroups, AKernelThreadIsKnownByItsFlags) {
  struct Case {
    const char* name;
    const char* stat;
    bool kernel;
  };
  for (const Case& c : {
           Case{"KVM's", "31 (kvm-nx-lpage-re) S 2 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1", true},
           Case{"a program", "31 (hob-vmm) S 1 31 31 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 2", false},
           Case{"one named like the end of a name", "31 (a) S 2 0 0 0 -1 2129984) S 1 31 31 0 -1 0",
                false},
           Case{"flags alone", "31 (x) S 2 0 0 0 -1 2097152", true},
           Case{"no flags", "31 (x) S 2 0 0 0 -1", false},
           Case{"no number", "31 (x) S 2 0 0 0 -1 x", false},
           Case{"no name", "31", false},
           Case{"nothing", "", false},
       }) {
    EXPECT_EQ(is_kernel_thread(c.stat), c.kernel) << c.name;
  }
  EXPECT_FALSE(is_kernel_thread(read_file("/proc/self/stat", 4'096).value()));
  // Process 2 makes all of them; a container's machine shows none.
  const auto maker = read_file("/proc/2/stat", 4'096);
  if (maker && maker->contains("(kthreadd)")) EXPECT_TRUE(is_kernel_thread(*maker));
}

}  // namespace
}  // namespace hob::sandbox
