// Which version of a service gets a request, by weight, and which target of it: the least loaded of
// all, or of two drawn at random where there are many.
//
// Pure. A target with `limit` requests in flight takes no more; one that is ejected is left out
// while others are not.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace hob::edge {

inline constexpr size_t kScanMax =
    16;  // above so many targets, two choices (facts: ln ln n instead of a scan)

struct TargetView {
  int in_flight = 0;
  bool ejected = false;
  bool excluded = false;  // tried already for this request
};

// `view(i)` for i in [0, count); `random`: any 64 bits. nullopt: none is free. Excluded ones are
// taken when there is nothing else.
template <class View>
std::optional<size_t> pick_target(size_t count, int limit, uint64_t random, View view) {
  if (count == 0) return std::nullopt;
  const auto free = [limit](const TargetView& target) {
    return target.in_flight < limit && !target.ejected && !target.excluded;
  };
  if (count > kScanMax) {
    const size_t a = static_cast<size_t>(random & 0xffffffffu) % count;
    const size_t b = (a + 1 + static_cast<size_t>(random >> 32) % (count - 1)) % count;
    const TargetView first = view(a);
    const TargetView second = view(b);
    if (free(first) && (!free(second) || first.in_flight <= second.in_flight)) return a;
    if (free(second)) return b;
  }
  // Equal ones take turns: the scan begins somewhere else each time.
  const size_t start = static_cast<size_t>(random % count);
  for (int pass = 0; pass < 2; ++pass) {
    std::optional<size_t> best;
    int least = limit;
    bool any_left_in = false;
    for (size_t k = 0; k < count; ++k) {
      const size_t i = start + k < count ? start + k : start + k - count;
      const TargetView target = view(i);
      if (pass == 0 && (target.ejected || target.excluded)) continue;
      any_left_in = true;
      if (target.in_flight < least) {
        least = target.in_flight;
        best = i;
      }
    }
    if (best) return best;
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
