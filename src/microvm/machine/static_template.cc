#include "microvm/machine/static_template.h"

#include <cpuid.h>

#include <algorithm>
#include <cstring>
#include <initializer_list>
#include <iterator>
#include <vector>

namespace hob::microvm {
namespace {

constexpr std::string_view kIntel = "GenuineIntel";
constexpr std::string_view kAmd = "AuthenticAMD";

// Signatures: extended family (bits 20 to 27), extended model (16 to 19), family, model, stepping.
constexpr uint32_t kSkylake = 0x00050654;
constexpr uint32_t kCascadeLake = 0x00050657;
constexpr uint32_t kIceLake = 0x000606a6;
constexpr uint32_t kMilan = 0x00a00f11;
constexpr uint32_t kSignatureBits = 0x0fff0fff;

using enum CpuidRegister::Name;

// A row of a template: bits under `mask` become those of `value`.
struct Row {
  uint32_t leaf, subleaf;
  CpuidRegister::Name name;
  uint32_t mask, value;
};

// Haswell's family and model; none of what later CPUs have: VMX, debug store, thermal monitors,
// TSX, SGX, MPX, protection keys, AVX-512, RDSEED, ADX, CLFLUSHOPT, CLWB, SHA, processor trace,
// XSAVEC, XSAVES, gigabyte pages. MCE, MTRR and ERMS are always there.
constexpr Row kHaswell[] = {
    {0x1, 0, kEax, 0x0fff3fff, 0x000306f2}, {0x1, 0, kEcx, 0x0004cdfc, 0},
    {0x1, 0, kEdx, 0xe8641080, 0x00001080}, {0x7, 0, kEbx, 0xffefda14, 0x00000200},
    {0x7, 0, kEcx, 0x40415f5e, 0},          {0x7, 0, kEdx, 0x0000011c, 0},
    {0xd, 0, kEax, 0x000002f8, 0},          {0xd, 1, kEax, 0x0000000e, 0},
};
// PREFETCHW, MONITORX; gigabyte pages; WBNOINVD.
constexpr Row kT2Extended[] = {
    {0x80000001, 0, kEcx, 0x20000100, 0},
    {0x80000001, 0, kEdx, 0x04000000, 0},
    {0x80000008, 0, kEbx, 0x00000200, 0},
};
// AMD's own instructions besides, which the pair must not have either.
constexpr Row kPairExtended[] = {
    {0x80000001, 0, kEcx, 0x200001c0, 0},
    {0x80000001, 0, kEdx, 0x07c00000, 0},
};
constexpr Row kIntelOfPair[] = {{0x80000008, 0, kEbx, 0x00000200, 0}};
// And how its speculation is to be restrained: preferably, and for one mode alone.
constexpr Row kAmdOfPair[] = {{0x80000008, 0, kEbx, 0x000c0205, 0x000c0000}};
// Ivy Bridge's: no AVX2, BMI, FMA, MOVBE, LZCNT, INVPCID as well.
constexpr Row kIvyBridge[] = {
    {0x1, 0, kEax, 0x0fff3fff, 0x000306e4}, {0x1, 0, kEcx, 0x0040dd3c, 0},
    {0x1, 0, kEdx, 0xa8641080, 0x00001080}, {0x7, 0, kEbx, 0xffafdd3c, 0},
    {0x7, 0, kEcx, 0x4041481e, 0},          {0x7, 0, kEdx, 0x0000000c, 0},
    {0xd, 0, kEax, 0x000002f8, 0},          {0xd, 1, kEax, 0x0000000e, 0},
    {0x80000001, 0, kEcx, 0x00000120, 0},   {0x80000001, 0, kEdx, 0x04000000, 0},
};

// IA32_ARCH_CAPABILITIES: of which attacks the CPU is safe by itself.
constexpr uint32_t kArchCapabilities = 0x10a;
// T2S promises what both of its CPUs have, so that a guest may move between them.
constexpr BitFilter kSafeOnBoth{.mask = ~uint64_t{0}, .value = 0xc4c};
// T2CL shows all that KVM lets a guest see, and nothing of what it may come to.
constexpr BitFilter kKnownAlone{.mask = 0xfffffffff2f51e00, .value = 0};

// The registers that KVM's CPUID entries tell apart by their subleaf carry a flag that says so.
uint32_t flags_of(uint32_t leaf) {
  return leaf == 0x7 || leaf == 0xd ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0;
}

void add(CpuTemplate& cpu, std::span<const Row> rows) {
  for (const Row& row : rows) {
    const CpuidRegister change{.name = row.name, .bits = {.mask = row.mask, .value = row.value}};
    if (!cpu.leaves.empty() && cpu.leaves.back().leaf == row.leaf &&
        cpu.leaves.back().subleaf == row.subleaf)
      cpu.leaves.back().registers.push_back(change);
    else
      cpu.leaves.push_back({.leaf = row.leaf,
                            .subleaf = row.subleaf,
                            .flags = flags_of(row.leaf),
                            .registers = {change}});
  }
}

CpuTemplate of(std::initializer_list<std::span<const Row>> parts) {
  CpuTemplate cpu;
  for (const std::span<const Row> rows : parts) add(cpu, rows);
  return cpu;
}

Result<void> check_host(const HostCpu& host, std::string_view vendor,
                        std::initializer_list<uint32_t> signatures) {
  if (host.vendor != vendor)
    return fail(Code::kInvalid, "CPU vendor mismatched between actual CPU and CPU template.");
  if (std::ranges::find(signatures, host.signature & kSignatureBits) == signatures.end())
    return fail(Code::kInvalid,
                "The current CPU model is not permitted to apply the CPU template.");
  return {};
}

}  // namespace

HostCpu this_cpu() {
  HostCpu host;
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
  __cpuid(0, eax, ebx, ecx, edx);
  for (const uint32_t part : {ebx, edx, ecx})
    host.vendor.append(reinterpret_cast<const char*>(&part), sizeof part);
  __cpuid(1, eax, ebx, ecx, edx);
  host.signature = eax;
  return host;
}

Result<CpuTemplate> static_template(StaticTemplate name, const HostCpu& host) {
  CpuTemplate cpu;
  switch (name) {
    case StaticTemplate::kNone:
      break;
    case StaticTemplate::kC3:
      HOB_CHECK(check_host(host, kIntel, {kSkylake, kCascadeLake, kIceLake}));
      cpu = of({kIvyBridge});
      break;
    case StaticTemplate::kT2:
      HOB_CHECK(check_host(host, kIntel, {kSkylake, kCascadeLake, kIceLake}));
      cpu = of({kHaswell, kT2Extended});
      break;
    case StaticTemplate::kT2S:
      HOB_CHECK(check_host(host, kIntel, {kSkylake, kCascadeLake}));
      cpu = of({kHaswell, kT2Extended});
      cpu.msrs = {{.index = kArchCapabilities, .bits = kSafeOnBoth}};
      break;
    case StaticTemplate::kT2CL:
      HOB_CHECK(check_host(host, kIntel, {kCascadeLake, kIceLake}));
      cpu = of({kHaswell, kPairExtended, kIntelOfPair});
      cpu.msrs = {{.index = kArchCapabilities, .bits = kKnownAlone}};
      break;
    case StaticTemplate::kT2A:
      HOB_CHECK(check_host(host, kAmd, {kMilan}));
      cpu = of({kHaswell, kPairExtended, kAmdOfPair});
      break;
  }
  return cpu;
}

}  // namespace hob::microvm
