// A split virtqueue, the device's side (virtio 1.2, section 2.7). Everything in it was written by
// the guest.
//
// A guest that breaks the rules gets nothing more: `pop` says kBroken, and from then on nothing is
// taken from the queue until the device is reset. Each descriptor is read once. Not for several
// threads at once.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "microvm/memory/guest_memory.h"

namespace hob::microvm {

inline constexpr uint16_t kQueueSizeMax = 256;
// Of one chain; no device of ours takes more in one request.
inline constexpr uint64_t kChainBytesMax = uint64_t{64} << 20;

struct Segment {
  GuestAddress address = 0;
  uint32_t bytes = 0;
};

// One request: what the device reads, then what it writes. All of it is guest memory.
struct Chain {
  uint16_t head = 0;
  std::vector<Segment> readable{};
  std::vector<Segment> writable{};
  uint64_t readable_bytes = 0;
  uint64_t writable_bytes = 0;
};

class Queue {
 public:
  explicit Queue(uint16_t size_max) : size_max_(size_max) {}

  // What the driver sets up, as the transport's registers have it; checked by `start`.
  struct Layout {
    uint16_t size = 0;
    GuestAddress descriptors = 0;
    GuestAddress available = 0;
    GuestAddress used = 0;
  };
  uint16_t size_max() const { return size_max_; }
  Layout& layout() { return layout_; }
  const Layout& layout() const { return layout_; }
  bool ready = false;  // QueueReady

  // False: sizes, alignment or addresses break the rules.
  bool start(const GuestMemory& memory, bool event_index);
  void reset();

  enum class Popped { kChain, kEmpty, kBroken };
  // Fills `chain`, whose vectors are used again.
  Popped pop(GuestMemory& memory, Chain& chain);
  // The last `count` chains that were popped, and not used, wait in the queue again.
  void unpop(size_t count) { next_available_ = static_cast<uint16_t>(next_available_ - count); }
  // The device has written `bytes` into the chain's writable part. False: broken.
  bool push_used(GuestMemory& memory, uint16_t head, uint32_t bytes);
  // After pushes: shall the driver be interrupted?
  bool wants_interrupt(GuestMemory& memory);
  // Says that the driver shall notify at the next chain; true: one is there already, look again.
  bool enable_notification(GuestMemory& memory);

 private:
  Popped break_it();
  const uint16_t size_max_;
  Layout layout_;
  bool event_index_ = false;
  bool broken_ = false;
  uint16_t next_available_ = 0;
  uint16_t next_used_ = 0;
  uint16_t signalled_used_ = 0;  // next_used_ when an interrupt was last thought about
};

}  // namespace hob::microvm
