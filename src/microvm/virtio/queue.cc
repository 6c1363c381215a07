#include "microvm/virtio/queue.h"

#include <atomic>
#include <bit>

namespace hob::microvm {
namespace {

struct Descriptor {
  uint64_t address = 0;
  uint32_t bytes = 0;
  uint16_t flags = 0;
  uint16_t next = 0;
};
static_assert(sizeof(Descriptor) == 16);
struct UsedElement {
  uint32_t head = 0;
  uint32_t bytes = 0;
};

constexpr uint16_t kNext = 1;
constexpr uint16_t kWrite = 2;
constexpr uint16_t kIndirect = 4;  // never offered
constexpr uint16_t kNoInterrupt = 1;

// Both rings: flags and index, then the entries, then the event's index.
constexpr uint64_t kIndexAt = 2;
constexpr uint64_t kRingAt = 4;
uint64_t available_bytes(uint16_t size) { return kRingAt + uint64_t{2} * size + 2; }
uint64_t used_bytes(uint16_t size) { return kRingAt + sizeof(UsedElement) * size + 2; }

}  // namespace

bool Queue::start(const GuestMemory& memory, bool event_index) {
  event_index_ = event_index;
  return layout_.size > 0 && layout_.size <= size_max_ && std::has_single_bit(layout_.size) &&
         layout_.descriptors % 16 == 0 && layout_.available % 2 == 0 && layout_.used % 4 == 0 &&
         memory.contains(layout_.descriptors, sizeof(Descriptor) * layout_.size) &&
         memory.contains(layout_.available, available_bytes(layout_.size)) &&
         memory.contains(layout_.used, used_bytes(layout_.size));
}

void Queue::reset() {
  layout_ = {};
  ready = event_index_ = broken_ = false;
  next_available_ = next_used_ = signalled_used_ = 0;
}

QueueState Queue::save() const {
  return {.size = layout_.size,
          .descriptors = layout_.descriptors,
          .available = layout_.available,
          .used = layout_.used,
          .ready = ready,
          .broken = broken_,
          .next_available = next_available_,
          .next_used = next_used_,
          .signalled_used = signalled_used_};
}

void Queue::restore(const QueueState& state) {
  layout_ = {.size = state.size,
             .descriptors = state.descriptors,
             .available = state.available,
             .used = state.used};
  ready = state.ready;
  broken_ = state.broken;
  next_available_ = state.next_available;
  next_used_ = state.next_used;
  signalled_used_ = state.signalled_used;
}

Queue::Popped Queue::break_it() {
  broken_ = true;
  return Popped::kBroken;
}

Queue::Popped Queue::pop(GuestMemory& memory, Chain& chain) {
  if (broken_) return Popped::kBroken;
  const auto index = memory.read<uint16_t>(layout_.available + kIndexAt);
  if (!index) return break_it();
  const auto waiting = static_cast<uint16_t>(*index - next_available_);
  if (waiting == 0) return Popped::kEmpty;
  if (waiting > layout_.size) return break_it();
  // What the index announces was written before it.
  std::atomic_thread_fence(std::memory_order_acquire);
  const auto head = memory.read<uint16_t>(layout_.available + kRingAt +
                                          uint64_t{2} * (next_available_ % layout_.size));
  if (!head) return break_it();

  chain.head = *head;
  chain.readable.clear();
  chain.writable.clear();
  chain.readable_bytes = chain.writable_bytes = 0;
  uint16_t at = *head;
  for (uint16_t count = 0;; ++count) {
    // More links than descriptors: it goes in a circle.
    if (at >= layout_.size || count >= layout_.size) return break_it();
    const auto descriptor = memory.read<Descriptor>(layout_.descriptors + sizeof(Descriptor) * at);
    if (!descriptor || (descriptor->flags & kIndirect) != 0) return break_it();
    const bool writable = (descriptor->flags & kWrite) != 0;
    // What the device reads stands in front of what it writes.
    if (!writable && !chain.writable.empty()) return break_it();
    if (descriptor->bytes > 0) {
      if (!memory.contains(descriptor->address, descriptor->bytes)) return break_it();
      (writable ? chain.writable : chain.readable)
          .push_back({descriptor->address, descriptor->bytes});
      (writable ? chain.writable_bytes : chain.readable_bytes) += descriptor->bytes;
      if (chain.readable_bytes + chain.writable_bytes > kChainBytesMax) return break_it();
    }
    if ((descriptor->flags & kNext) == 0) break;
    at = descriptor->next;
  }
  ++next_available_;
  return Popped::kChain;
}

bool Queue::push_used(GuestMemory& memory, uint16_t head, uint32_t bytes) {
  if (broken_) return false;
  const UsedElement element{.head = head, .bytes = bytes};
  if (!memory.write(layout_.used + kRingAt + sizeof element * (next_used_ % layout_.size),
                    element)) {
    broken_ = true;
    return false;
  }
  ++next_used_;
  std::atomic_thread_fence(std::memory_order_release);
  if (!memory.write(layout_.used + kIndexAt, next_used_)) broken_ = true;
  return !broken_;
}

bool Queue::wants_interrupt(GuestMemory& memory) {
  if (broken_ || next_used_ == signalled_used_) return false;
  const uint16_t before = signalled_used_;
  signalled_used_ = next_used_;
  // The index is seen before what the driver says about interrupts is read (2.7.7.1).
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (!event_index_) {
    const auto flags = memory.read<uint16_t>(layout_.available);
    return flags && (*flags & kNoInterrupt) == 0;
  }
  const auto event =
      memory.read<uint16_t>(layout_.available + kRingAt + uint64_t{2} * layout_.size);
  if (!event) return false;
  return static_cast<uint16_t>(next_used_ - *event - 1) <
         static_cast<uint16_t>(next_used_ - before);
}

bool Queue::enable_notification(GuestMemory& memory) {
  if (broken_) return false;
  if (event_index_ &&
      !memory.write(layout_.used + kRingAt + sizeof(UsedElement) * layout_.size, next_available_)) {
    broken_ = true;
    return false;
  }
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const auto index = memory.read<uint16_t>(layout_.available + kIndexAt);
  return index && *index != next_available_;
}

}  // namespace hob::microvm
