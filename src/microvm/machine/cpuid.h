// What a vCPU says of itself by CPUID: what KVM can do, made to fit one CPU of so many in a machine
// without siblings elsewhere. Pure.
#pragma once

#include <linux/kvm.h>

#include <cstdint>
#include <span>
#include <vector>

namespace hob::microvm {

struct CpuShape {
  uint32_t index = 0;
  uint32_t vcpus = 1;
  bool smt = false;           // two vCPUs a core
  bool tsc_deadline = false;  // KVM has the TSC deadline timer
};

std::vector<kvm_cpuid_entry2> shape_cpuid(std::span<const kvm_cpuid_entry2> supported,
                                          const CpuShape& shape);

}  // namespace hob::microvm
