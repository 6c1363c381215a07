#include "edge/timer_wheel.h"

#include <algorithm>
#include <bit>

namespace hob::edge {

TimerWheel::TimerWheel(uint64_t now_ms) : next_slot_(now_ms / kSlotMs) {
  for (Timer& head : slots_) head.next_ = head.previous_ = &head;
}

void TimerWheel::insert(Timer& timer, uint64_t now_ms) {
  timer.unlink();
  const uint64_t look_at = std::min(timer.due_, now_ms + kLookAhead);
  // One slot later than it lies in, so that the slot is run when the deadline has passed.
  timer.slot_ = std::max(look_at / kSlotMs + 1, next_slot_);
  Timer& head = slots_[timer.slot_ % kSlots];
  occupied_[timer.slot_ % kSlots / 64] |= uint64_t{1} << timer.slot_ % 64;
  timer.next_ = &head;
  timer.previous_ = head.previous_;
  head.previous_->next_ = &timer;
  head.previous_ = &timer;
}

uint64_t TimerWheel::wait(uint64_t now_ms) const {
  for (uint64_t slot = next_slot_; slot < next_slot_ + kSlots;) {
    uint64_t& word = occupied_[slot % kSlots / 64];
    const uint64_t rest = word >> slot % 64;
    if (rest == 0) {
      slot += 64 - slot % 64;
      continue;
    }
    slot += static_cast<uint64_t>(std::countr_zero(rest));
    const Timer& head = slots_[slot % kSlots];
    if (head.next_ == &head) {  // all of its timers have been moved or destroyed
      word &= ~(uint64_t{1} << slot % 64);
      continue;
    }
    const uint64_t at = slot * kSlotMs;
    return at > now_ms ? at - now_ms : 0;
  }
  return kNever;
}

}  // namespace hob::edge
