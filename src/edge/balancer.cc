#include "edge/balancer.h"

#include <algorithm>

#include "edge/limits.h"

namespace hob::edge {

bool Ejection::failed(uint64_t now, size_t others_ejected, size_t count) {
  if (ejected(now)) return false;
  // One that has been ejected and fails again at its first request goes out at once.
  if (++failures < kEjectAfter && times == 0) return false;
  if ((others_ejected + 1) * 2 > count) return false;
  failures = 0;
  until = now + std::min(kEjectMax, kEjectMin << std::min(times, 10u));
  ++times;
  return true;
}

}  // namespace hob::edge
