#include "microvm/machine/cpuid.h"

#include <bit>

namespace hob::microvm {
namespace {

// Bits [low, low + width) of `word` become `value`.
void put_bits(uint32_t& word, int low, int width, uint32_t value) {
  const uint32_t mask = width == 32 ? ~uint32_t{0} : ((uint32_t{1} << width) - 1) << low;
  word = (word & ~mask) | (value << low & mask);
}

// Leaves are of Intel's SDM 2A (CPUID) and AMD's APM 3, appendix E.
constexpr uint32_t kFeatures = 0x1;
constexpr uint32_t kCaches = 0x4;
constexpr uint32_t kPower = 0x6;
constexpr uint32_t kPerformance = 0xa;
constexpr uint32_t kTopology = 0xb;
constexpr uint32_t kTopologyV2 = 0x1f;
constexpr uint32_t kAmdSizes = 0x80000008;
constexpr uint32_t kAmdCaches = 0x8000001d;
constexpr uint32_t kAmdTopology = 0x8000001e;

void shape_topology(kvm_cpuid_entry2& entry, const CpuShape& shape) {
  const uint32_t threads = shape.smt ? 2 : 1;
  const auto bits = [](uint32_t count) { return static_cast<uint32_t>(std::bit_width(count - 1)); };
  entry.edx = shape.index;
  switch (entry.index) {
    case 0:  // threads of a core
      entry.eax = bits(threads);
      entry.ebx = threads;
      entry.ecx = 1 << 8;
      break;
    case 1:  // cores of a package
      entry.eax = bits(shape.vcpus);
      entry.ebx = shape.vcpus;
      entry.ecx = 2 << 8 | 1;
      break;
    default:
      entry.eax = entry.ebx = 0;
      entry.ecx = entry.index;
  }
}

uint32_t cores(const CpuShape& shape) {
  return shape.smt && shape.vcpus > 1 ? shape.vcpus / 2 : shape.vcpus;
}

// A cache of a level: the third is shared by all, the others by the threads of a core.
uint32_t sharers(uint32_t level, const CpuShape& shape) {
  if (level >= 3) return shape.vcpus;
  return shape.smt && shape.vcpus > 1 ? 2 : 1;
}

}  // namespace

std::vector<kvm_cpuid_entry2> shape_cpuid(std::span<const kvm_cpuid_entry2> supported,
                                          const CpuShape& shape) {
  std::vector<kvm_cpuid_entry2> entries(supported.begin(), supported.end());
  for (kvm_cpuid_entry2& entry : entries) {
    switch (entry.function) {
      case kFeatures:
        put_bits(entry.ebx, 8, 8, 8);             // CLFLUSH line in quadwords
        put_bits(entry.ebx, 16, 8, shape.vcpus);  // logical CPUs of the package
        put_bits(entry.ebx, 24, 8, shape.index);  // APIC id
        put_bits(entry.ecx, 24, 1, shape.tsc_deadline ? 1 : 0);
        put_bits(entry.ecx, 31, 1, 1);  // a hypervisor is there
        put_bits(entry.edx, 28, 1, shape.vcpus > 1 ? 1 : 0);
        break;
      case kCaches:
      case kAmdCaches:
        if ((entry.eax & 0x1f) == 0) break;
        put_bits(entry.eax, 14, 12, sharers(entry.eax >> 5 & 7, shape) - 1);
        if (entry.function == kCaches) put_bits(entry.eax, 26, 6, cores(shape) - 1);
        break;
      case kPower:
        put_bits(entry.eax, 1, 1, 0);  // no turbo that the guest could see
        put_bits(entry.ecx, 3, 1, 0);  // no performance bias of its own
        break;
      case kPerformance:
        entry.eax = entry.ebx = entry.ecx = entry.edx = 0;  // no counters
        break;
      case kTopology:
      case kTopologyV2:
        shape_topology(entry, shape);
        break;
      case kAmdSizes:
        put_bits(entry.ecx, 0, 8, shape.vcpus - 1);
        put_bits(entry.ecx, 12, 4, static_cast<uint32_t>(std::bit_width(shape.vcpus - 1)));
        break;
      case kAmdTopology:
        entry.eax = shape.index;
        put_bits(entry.ebx, 0, 8, shape.index / (shape.smt ? 2 : 1));
        put_bits(entry.ebx, 8, 8, shape.smt ? 1 : 0);
        entry.ecx = 0;  // one node
        break;
      default:
        break;
    }
  }
  return entries;
}

}  // namespace hob::microvm
