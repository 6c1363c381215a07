#include <asm/unistd_32.h>

#include <array>

#include "guest/refused_calls.h"

namespace hob::guest {

std::span<const uint32_t> refused_calls_i386() {
  static constexpr auto kCalls = std::to_array<uint32_t>(
      {HOB_REFUSED_CALLS, __NR_umount, __NR_stime, __NR_vm86, __NR_vm86old, __NR_clock_settime64});
  return kCalls;
}

}  // namespace hob::guest
