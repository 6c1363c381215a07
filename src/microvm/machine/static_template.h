// The CPU templates that Firecracker has by name: what a guest shall see of its CPU, so that it is
// the same on CPUs of several generations. Pure, but for this_cpu().
//
// The names are EC2's instance types whose CPUs they resemble; T2CL and T2A are a pair, of Intel's
// and AMD's CPUs. Which bits they change is Firecracker's choice, kept bit for bit.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "microvm/machine/cpu_template.h"

namespace hob::microvm {

// As snapshots keep it: new ones go to the end.
enum class StaticTemplate { kNone, kC3, kT2, kT2S, kT2CL, kT2A };
// As the API says them, in that order.
inline constexpr std::array<std::string_view, 6> kStaticTemplateWords = {"None", "C3",   "T2",
                                                                         "T2S",  "T2CL", "T2A"};

struct HostCpu {
  std::string vendor{};    // "GenuineIntel"
  uint32_t signature = 0;  // family, model and stepping: CPUID leaf 1, EAX
};
HostCpu this_cpu();

// kInvalid: it is not for this CPU. Of kNone, what changes nothing.
Result<CpuTemplate> static_template(StaticTemplate name, const HostCpu& host);

}  // namespace hob::microvm
