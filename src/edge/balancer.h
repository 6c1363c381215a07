// Which version of a service gets a request, by weight, and which target of it: the least loaded of
// all, or of two drawn at random where there are many.
//
// Pure. A target with `limit` requests in flight takes no more; one that is ejected is left out
// while others are not, and one that is new takes only a few while others have places. Targets of
// the edge's own zone are preferred to others with as many requests, so that a zone with few
// targets is never loaded above the rest.
#pragma once

#include <array>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "edge/limits.h"

namespace hob::edge {

inline constexpr size_t kScanMax =
    16;  // above so many targets, two choices (facts: ln ln n instead of a scan)

struct TargetView {
  int in_flight = 0;
  bool ejected = false;
  bool excluded = false;  // tried already for this request
  int slots = INT_MAX;    // of a new one: how many it takes while others have places
};

// How many requests a target takes `age` milliseconds after it came: one after the other, all of
// them after kSlowStart.
inline int slow_start_slots(uint64_t age, int limit) {
  if (age >= kSlowStart) return limit;
  return 1 + static_cast<int>(static_cast<uint64_t>(limit - 1) * age / kSlowStart);
}

// Whether a request may be sent once more: the retries of the last kBudgetSeconds are at most
// kRetryPercent of its requests, and kRetriesMin a second besides.
//
// Of one service on one loop. Seconds of any clock that does not go back.
class RetryBudget {
 public:
  void request(uint64_t second) {
    Slot& slot = at(second);
    ++slot.requests;
    ++requests_;
  }
  // True: it may, and is counted.
  bool take(uint64_t second);

 private:
  struct Slot {
    uint32_t requests = 0;
    uint32_t retries = 0;
  };
  Slot& at(uint64_t second) {
    if (second != second_) advance(second);
    return slots_[second % kBudgetSeconds];
  }
  void advance(uint64_t second);
  std::array<Slot, kBudgetSeconds> slots_{};
  uint64_t second_ = 0;
  uint64_t requests_ = 0;  // of all slots, as the next
  uint64_t retries_ = 0;
};

// `view(i)` for i in [0, count), of which the first `near` are in the edge's zone; `random`: any 64
// bits. nullopt: none is free. Excluded ones are taken when there is nothing else.
template <class View>
std::optional<size_t> pick_target(size_t count, size_t near, int limit, uint64_t random,
                                  View view) {
  if (count == 0) return std::nullopt;
  const auto free = [limit](const TargetView& target) {
    return target.in_flight < limit && target.in_flight < target.slots && !target.ejected &&
           !target.excluded;
  };
  if (count > kScanMax) {
    const size_t a = static_cast<size_t>(random & 0xffffffffu) % count;
    const size_t b = (a + 1 + static_cast<size_t>(random >> 32) % (count - 1)) % count;
    const TargetView first = view(a);
    const TargetView second = view(b);
    std::optional<size_t> best;
    int least = INT_MAX;
    if (free(first)) {
      best = a;
      least = first.in_flight;
    }
    if (free(second) && second.in_flight < least) {
      best = b;
      least = second.in_flight;
    }
    // A third of the own zone, where that is not all: taken only if it is no more loaded than the
    // better of two from everywhere, it is a rare one that is above the mean.
    if (near > 0 && near < count) {
      const size_t c = static_cast<size_t>((random >> 16) % near);
      const TargetView third = view(c);
      if (free(third) && third.in_flight <= least) return c;
    }
    if (best) return best;
  }
  // Equal ones take turns: the scan begins somewhere else each time.
  const size_t start = static_cast<size_t>(random % count);
  for (int pass = 0; pass < 2; ++pass) {
    std::optional<size_t> best;
    std::optional<size_t> best_new;  // beyond its slots: when nobody else has a place
    int least = limit;
    int least_new = limit;
    bool any_left_in = false;
    for (size_t k = 0; k < count; ++k) {
      const size_t i = start + k < count ? start + k : start + k - count;
      const TargetView target = view(i);
      if (pass == 0 && (target.ejected || target.excluded)) continue;
      any_left_in = true;
      if (target.in_flight >= target.slots) {
        if (target.in_flight < least_new) {
          least_new = target.in_flight;
          best_new = i;
        }
      } else if (target.in_flight < least ||
                 (best && target.in_flight == least && i < near && *best >= near)) {
        least = target.in_flight;
        best = i;
      }
    }
    if (best) return best;
    if (best_new) return best_new;
    // Full is not failed: only when all are ejected or tried are those used after all (failing
    // open).
    if (any_left_in) return std::nullopt;
  }
  return std::nullopt;
}

struct VersionView {
  int weight = 0;  // 0..kWeightMax
  bool has_targets = false;
};

// Each version's share of the requests that name none: its weight, if it has targets. Where none
// that has a weight has targets, those that have share alike; where none at all has, requests wait
// by weight, or for the first.
std::vector<int> shares_of(std::span<const VersionView> versions);

// `share(i)` for i in [0, count), count >= 1; `sum`: of all, above 0. `random`: any 64 bits.
template <class Share>
size_t pick_version(size_t count, uint64_t sum, uint64_t random, Share share) {
  uint64_t at = random % sum;
  for (size_t i = 0; i + 1 < count; ++i) {
    const auto mine = static_cast<uint64_t>(share(i));
    if (at < mine) return i;
    at -= mine;
  }
  return count - 1;
}

// Passive ejection of one target as one loop sees it. Times in milliseconds of steady time.
struct Ejection {
  uint32_t failures = 0;  // in a row
  uint32_t times = 0;     // ejected in a row
  uint64_t until = 0;

  bool ejected(uint64_t now) const { return now < until; }
  void succeeded() {
    failures = 0;
    times = 0;
  }
  // True: it is ejected from now on. `others_ejected` of `count` targets are already; never more
  // than half are.
  bool failed(uint64_t now, size_t others_ejected, size_t count);
};

}  // namespace hob::edge
