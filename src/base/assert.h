// HOB_ASSERT: stops the process on a bug of ours, in every build; the supervisor restarts it.
// Never on what a user, guest, peer or stored record can cause: that is an Error (base/result.h).
#pragma once

namespace hob {
[[noreturn]] void assertion_failed(const char* expression, const char* file, int line);
}  // namespace hob

#define HOB_ASSERT(condition) \
  ((condition) ? static_cast<void>(0) : ::hob::assertion_failed(#condition, __FILE__, __LINE__))
