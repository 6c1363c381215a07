// A custom CPU configuration: bits of CPUID and of model-specific registers that the guest shall
// see as given, whatever the host's are. Pure.
#pragma once

#include <linux/kvm.h>

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hob::microvm {

// Bits under `mask` become those of `value`.
struct BitFilter {
  uint64_t mask = 0;
  uint64_t value = 0;
  uint64_t apply(uint64_t bits) const { return (bits & ~mask) | (value & mask); }
};
// "0b01x_1": 0 and 1 are set, x stays; the last is bit 0, and what is not written stays. kInvalid:
// other characters, or more than `bits_max` bits.
Result<BitFilter> parse_bits(std::string_view text, size_t bits_max);

struct CpuidRegister {
  enum class Name { kEax, kEbx, kEcx, kEdx };
  Name name = Name::kEax;
  BitFilter bits{};
};
struct CpuidLeaf {
  uint32_t leaf = 0;
  uint32_t subleaf = 0;
  uint32_t flags = 0;  // kvm_cpuid_entry2's
  std::vector<CpuidRegister> registers{};
};
struct MsrBits {
  uint32_t index = 0;
  BitFilter bits{};
};
struct CpuTemplate {
  std::vector<uint32_t> capabilities{};  // KVM must have them
  std::vector<CpuidLeaf> leaves{};
  std::vector<MsrBits> msrs{};
};

// kInvalid: there is no such leaf here.
Result<void> apply_template(const CpuTemplate& cpu, std::span<kvm_cpuid_entry2> cpuid);

}  // namespace hob::microvm
