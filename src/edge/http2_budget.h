// What a peer of HTTP/2 may make us do for nothing (http2_limits.h says how much): frames that cost
// work and ask for nothing, and streams that are reset.
//
// A value; the caller says what time it is, in milliseconds of steady time.
#pragma once

#include <algorithm>
#include <cstdint>

#include "edge/http2_limits.h"

namespace hob::edge {

class Http2Budget {
 public:
  explicit Http2Budget(uint64_t now_ms) : counted_to_ms_(now_ms) {}

  // False: it is used up.
  bool spend(int cost, uint64_t now_ms) {
    const uint64_t seconds = (now_ms - counted_to_ms_) / 1'000;
    if (seconds > 0) {
      counted_to_ms_ += seconds * 1'000;
      earn(static_cast<int>(std::min<uint64_t>(seconds, kHttp2Budget)) * kHttp2EarnedPerSecond);
    }
    left_ -= cost;
    return left_ > 0;
  }
  void earn(int gain) { left_ = std::min(left_ + gain, kHttp2Budget); }

  // A stream that was opened at `opened_ms` has been reset. False: too many, and most of them soon.
  bool count_reset(uint64_t opened_ms, uint64_t now_ms) {
    if (now_ms - resets_since_ms_ > kHttp2ResetsMs) {
      resets_since_ms_ = now_ms;
      resets_ = quick_resets_ = 0;
    }
    ++resets_;
    if (now_ms - opened_ms < kHttp2QuickMs) ++quick_resets_;
    return resets_ <= kHttp2ResetsMax || 2 * quick_resets_ <= resets_;
  }

 private:
  int left_ = kHttp2Budget;
  uint64_t counted_to_ms_;
  uint64_t resets_since_ms_ = 0;
  uint32_t resets_ = 0;
  uint32_t quick_resets_ = 0;
};

}  // namespace hob::edge
