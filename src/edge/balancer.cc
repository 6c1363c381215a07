#include "edge/balancer.h"

#include <algorithm>

#include "edge/limits.h"

namespace hob::edge {

std::vector<int> shares_of(std::span<const VersionView> versions) {
  std::vector<int> shares(versions.size(), 0);
  const auto give = [&](auto share) {
    bool any = false;
    for (size_t i = 0; i < versions.size(); ++i) {
      shares[i] = share(versions[i]);
      any = any || shares[i] > 0;
    }
    return any;
  };
  if (give([](const VersionView& of) { return of.has_targets ? of.weight : 0; })) return shares;
  if (give([](const VersionView& of) { return of.has_targets ? 1 : 0; })) return shares;
  if (give([](const VersionView& of) { return of.weight; })) return shares;
  if (!shares.empty()) shares.front() = 1;
  return shares;
}

void RetryBudget::advance(uint64_t second) {
  const uint64_t gone = std::min<uint64_t>(second - second_, kBudgetSeconds);
  for (uint64_t i = 1; i <= gone; ++i) {
    Slot& slot = slots_[(second_ + i) % kBudgetSeconds];
    requests_ -= slot.requests;
    retries_ -= slot.retries;
    slot = {};
  }
  // After a longer pause all are empty.
  second_ = second;
}

bool RetryBudget::take(uint64_t second) {
  Slot& slot = at(second);
  if (retries_ >= requests_ * kRetryPercent / 100 + kRetriesMin * kBudgetSeconds) return false;
  ++slot.retries;
  ++retries_;
  return true;
}

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
