#include "microvm/machine/static_template.h"

#include <gtest/gtest.h>

namespace hob::microvm {
namespace {

constexpr uint32_t kSkylake = 0x50654, kCascadeLake = 0x50657, kIceLake = 0x606a6,
                   kMilan = 0xa00f11;
constexpr const char* kVendor = "CPU vendor mismatched between actual CPU and CPU template.";
constexpr const char* kModel = "The current CPU model is not permitted to apply the CPU template.";

TEST(StaticTemplate, IsForItsCpusAlone) {
  struct Case {
    StaticTemplate name;
    const char* vendor;
    uint32_t signature;
    const char* refusal;  // empty: none
  };
  using enum StaticTemplate;
  for (const Case& c :
       {Case{kNone, "CyrixInstead", 0, ""}, Case{kC3, "GenuineIntel", kIceLake, ""},
        Case{kC3, "AuthenticAMD", kMilan, kVendor}, Case{kT2, "GenuineIntel", kSkylake, ""},
        Case{kT2, "GenuineIntel", 0x306f2, kModel}, Case{kT2, "AuthenticAMD", kSkylake, kVendor},
        Case{kT2S, "GenuineIntel", kCascadeLake, ""}, Case{kT2S, "GenuineIntel", kIceLake, kModel},
        Case{kT2CL, "GenuineIntel", kIceLake, ""}, Case{kT2CL, "GenuineIntel", kSkylake, kModel},
        Case{kT2A, "AuthenticAMD", kMilan, ""}, Case{kT2A, "AuthenticAMD", 0x800f12, kModel},
        Case{kT2A, "GenuineIntel", kMilan, kVendor}}) {
    const auto cpu = static_template(c.name, {.vendor = c.vendor, .signature = c.signature});
    EXPECT_EQ(cpu ? "" : cpu.error().message, c.refusal) << static_cast<int>(c.name);
  }
}

// A CPU that can do all: each leaf that a template changes, all bits set.
std::vector<kvm_cpuid_entry2> everything() {
  std::vector<kvm_cpuid_entry2> cpuid;
  struct Leaf {
    uint32_t function, index, flags;
  };
  for (const Leaf& leaf : {Leaf{1, 0, 0}, Leaf{7, 0, 1}, Leaf{0xd, 0, 1}, Leaf{0xd, 1, 1},
                           Leaf{0x80000001, 0, 0}, Leaf{0x80000008, 0, 0}})
    cpuid.push_back({.function = leaf.function,
                     .index = leaf.index,
                     .flags = leaf.flags,
                     .eax = ~0u,
                     .ebx = ~0u,
                     .ecx = ~0u,
                     .edx = ~0u,
                     .padding = {}});
  return cpuid;
}

TEST(StaticTemplate, HidesWhatItsCpuHasNot) {
  constexpr uint32_t kFma = 1 << 12, kVmx = 1 << 5, kAvx2 = 1 << 5, kAvx512 = 1 << 16,
                     kErms = 1 << 9, kXsaves = 1 << 3, kSse4a = 1 << 6;
  struct Case {
    StaticTemplate name;
    HostCpu host;
    uint32_t signature;
    bool haswell, pair;
  };
  for (const Case& c :
       {Case{StaticTemplate::kC3, {"GenuineIntel", kSkylake}, 0x306e4, false, false},
        Case{StaticTemplate::kT2, {"GenuineIntel", kSkylake}, 0x306f2, true, false},
        Case{StaticTemplate::kT2S, {"GenuineIntel", kSkylake}, 0x306f2, true, false},
        Case{StaticTemplate::kT2CL, {"GenuineIntel", kIceLake}, 0x306f2, true, true},
        Case{StaticTemplate::kT2A, {"AuthenticAMD", kMilan}, 0x306f2, true, true}}) {
    std::vector<kvm_cpuid_entry2> cpuid = everything();
    const auto cpu = static_template(c.name, c.host);
    ASSERT_TRUE(cpu && apply_template(*cpu, cpuid)) << static_cast<int>(c.name);
    EXPECT_EQ(cpuid[0].eax & 0x0fff3fff, c.signature);
    EXPECT_EQ((cpuid[0].ecx & kFma) != 0, c.haswell);
    EXPECT_EQ(cpuid[0].ecx & kVmx, 0u);
    EXPECT_EQ((cpuid[1].ebx & kAvx2) != 0, c.haswell);
    EXPECT_NE(cpuid[1].ebx & kErms, 0u);
    EXPECT_EQ(cpuid[1].ebx & kAvx512, 0u);
    EXPECT_EQ(cpuid[3].eax & kXsaves, 0u);
    EXPECT_EQ((cpuid[4].ecx & kSse4a) == 0, c.pair);
  }
}

TEST(StaticTemplate, TheMachineHereHasAVendor) {
  const HostCpu host = this_cpu();
  EXPECT_EQ(host.vendor.size(), 12u);
  EXPECT_NE(host.signature, 0u);
}

}  // namespace
}  // namespace hob::microvm
