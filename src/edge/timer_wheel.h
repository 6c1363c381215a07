// Deadlines of one loop, cheap to move: a wheel of kSlots slots, kSlotMs each.
//
// Moving a deadline later costs one store: the timer stays where it is and is put forward when its
// slot comes. A timer is never looked at later than kLookAhead from now, so moving it a little
// earlier is cheap too. A timer fires at its deadline or up to kSlotMs after it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace hob::edge {

inline constexpr uint64_t kNever = ~uint64_t{0};

class TimerWheel;

// Embedded in what it wakes; unlinks itself when destroyed.
class Timer {
 public:
  Timer() = default;
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;
  ~Timer() { unlink(); }
  uint64_t due() const { return due_; }

 private:
  friend class TimerWheel;
  void unlink() {
    if (next_ == nullptr) return;
    previous_->next_ = next_;
    next_->previous_ = previous_;
    next_ = previous_ = nullptr;
  }
  Timer* next_ = nullptr;
  Timer* previous_ = nullptr;
  uint64_t due_ = kNever;
  uint64_t slot_ = 0;
};

class TimerWheel {
 public:
  static constexpr uint64_t kSlotMs = 16;
  static constexpr size_t kSlots = 512;
  static constexpr uint64_t kLookAhead = 4'000;  // milliseconds
  static_assert(kLookAhead / kSlotMs < kSlots - 1 && kSlots % 64 == 0);

  explicit TimerWheel(uint64_t now_ms);

  // Fires at `due_ms` (of the loop's clock); kNever: does not.
  void set(Timer& timer, uint64_t due_ms, uint64_t now_ms) {
    timer.due_ = due_ms;
    if (due_ms == kNever) return;  // its slot will find nothing to do
    if (timer.next_ != nullptr && timer.slot_ * kSlotMs <= due_ms + kSlotMs) return;
    insert(timer, now_ms);
  }
  // Milliseconds until there may be something to do; kNever: no timer is set.
  uint64_t wait(uint64_t now_ms) const;
  // Calls fire(timer) for each that is due. `fire` may set, and destroy, any timer.
  template <class Fire>
  void run(uint64_t now_ms, Fire fire) {
    const uint64_t now_slot = now_ms / kSlotMs;
    while (next_slot_ <= now_slot) {
      const uint64_t slot = next_slot_++;
      Timer& head = slots_[slot % kSlots];
      occupied_[slot % kSlots / 64] &= ~(uint64_t{1} << slot % 64);
      if (head.next_ == &head) continue;
      // Moved apart first: what fires may put timers into this very slot again.
      Timer batch;
      batch.next_ = head.next_;
      batch.previous_ = head.previous_;
      batch.next_->previous_ = batch.previous_->next_ = &batch;
      head.next_ = head.previous_ = &head;
      while (batch.next_ != &batch) {
        Timer& timer = *batch.next_;
        timer.unlink();
        if (timer.due_ == kNever) continue;
        if (timer.due_ > now_ms) {
          insert(timer, now_ms);
          continue;
        }
        timer.due_ = kNever;
        fire(timer);
      }
    }
  }

 private:
  void insert(Timer& timer, uint64_t now_ms);

  std::array<Timer, kSlots> slots_;  // rings through these heads
  // A bit for each slot that may have timers: reading the heads themselves in each turn would fill
  // the cache.
  mutable std::array<uint64_t, kSlots / 64> occupied_{};
  uint64_t next_slot_;  // the first that has not been run
};

}  // namespace hob::edge
