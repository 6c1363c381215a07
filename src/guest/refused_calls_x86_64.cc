#include <asm/unistd_64.h>

#include <array>

#include "guest/refused_calls.h"

namespace hob::guest {

std::span<const uint32_t> refused_calls_x86_64() {
  static constexpr auto kCalls = std::to_array<uint32_t>({HOB_REFUSED_CALLS, __NR_kexec_file_load});
  return kCalls;
}

}  // namespace hob::guest
