#include "microvm/machine/cpu_template.h"

#include <algorithm>

namespace hob::microvm {
namespace {

uint32_t& register_of(kvm_cpuid_entry2& entry, CpuidRegister::Name name) {
  switch (name) {
    case CpuidRegister::Name::kEax:
      return entry.eax;
    case CpuidRegister::Name::kEbx:
      return entry.ebx;
    case CpuidRegister::Name::kEcx:
      return entry.ecx;
    case CpuidRegister::Name::kEdx:
      break;
  }
  return entry.edx;
}

}  // namespace

Result<BitFilter> parse_bits(std::string_view text, size_t bits_max) {
  if (text.starts_with("0b")) text.remove_prefix(2);
  BitFilter filter;
  size_t bits = 0;
  for (const char c : text) {
    if (c == '_') continue;
    if (c != '0' && c != '1' && c != 'x')
      return fail(Code::kInvalid, "Failed to parse string [{}] as a bitmap - unknown character",
                  text);
    if (++bits > bits_max)
      return fail(Code::kInvalid, "Failed to parse string [{}] as a bitmap - string is too long",
                  text);
    filter.mask = filter.mask << 1 | (c == 'x' ? 0 : 1);
    filter.value = filter.value << 1 | (c == '1' ? 1 : 0);
  }
  return filter;
}

Result<void> apply_template(const CpuTemplate& cpu, std::span<kvm_cpuid_entry2> cpuid) {
  for (const CpuidLeaf& leaf : cpu.leaves) {
    const auto entry = std::ranges::find_if(cpuid, [&](const kvm_cpuid_entry2& one) {
      return one.function == leaf.leaf && one.index == leaf.subleaf && one.flags == leaf.flags;
    });
    if (entry == cpuid.end())
      return fail(Code::kInvalid,
                  "the CPU configuration changes CPUID leaf {:#x}, subleaf {:#x}, flags {}, which "
                  "this host has not got",
                  leaf.leaf, leaf.subleaf, leaf.flags);
    for (const CpuidRegister& change : leaf.registers) {
      uint32_t& bits = register_of(*entry, change.name);
      bits = static_cast<uint32_t>(change.bits.apply(bits));
    }
  }
  return {};
}

}  // namespace hob::microvm
