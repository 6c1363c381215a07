// What every virtio device offers to its transport (virtio 1.2, section 2). One shape for all:
// virtio/block.h is the one to read first.
//
// The transport calls with the device's lock held, from vCPU threads (registers) and from the loop
// (queues).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "microvm/memory/guest_memory.h"
#include "microvm/virtio/queue.h"

namespace hob::microvm {

inline constexpr uint64_t kFeatureEventIndex = uint64_t{1} << 29;
inline constexpr uint64_t kFeatureVersion1 = uint64_t{1} << 32;

// How a device tells its driver something. Any thread.
class DeviceInterrupt {
 public:
  virtual ~DeviceInterrupt() = default;
  virtual void queue_used() = 0;
  virtual void configuration_changed() = 0;
  // The driver broke the rules: it must reset the device (2.1.1, DEVICE_NEEDS_RESET).
  virtual void needs_reset() = 0;
};

class VirtioDevice {
 public:
  virtual ~VirtioDevice() = default;
  virtual uint32_t type() const = 0;  // section 5
  // Of these the driver chooses; kFeatureVersion1 among them.
  virtual uint64_t features() const = 0;
  // The largest size of each queue, which are so many.
  virtual std::span<const uint16_t> queue_sizes() const = 0;
  virtual void read_configuration(uint64_t offset, std::span<std::byte> data) = 0;
  virtual void write_configuration(uint64_t offset, std::span<const std::byte> data) = 0;

  // The driver is ready: all queues that it uses are started. What is given outlives the device's
  // activity.
  struct Active {
    GuestMemory& memory;
    std::span<Queue> queues;
    DeviceInterrupt& interrupt;
    uint64_t features = 0;  // chosen
  };
  virtual void activate(const Active& active) = 0;
  // Requests may be in queue `index`. On the loop, so it does a bounded share of them; kMore: it
  // shall be called again.
  enum class Progress { kDone, kMore };
  virtual Progress notified(size_t index) = 0;
  // What else makes work than a queue: descriptors of the host's (a tap, a timer), which live as
  // long as the device. Each change to ready is told once (EPOLLET): the device goes on until there
  // is nothing more, or says kMore.
  struct Source {
    int fd = -1;
    uint32_t events = 0;  // epoll's bits
  };
  virtual std::vector<Source> sources() const { return {}; }
  // sources()[index] became ready, or may have been all along. As bounded as `notified`.
  virtual Progress host_ready(size_t /*index*/) { return Progress::kDone; }
  // Finishes what is in flight: nothing of it touches memory or queues afterwards.
  virtual void settle() {}
  // Ends all activity; the queues are not touched any more when it returns.
  virtual void reset() = 0;

  // For snapshots, of a machine that is paused: the device's own state, queues apart, as a plain
  // struct encoded by snapshot/encoding.h. kInvalid: it has none that could be kept, so no snapshot
  // is taken.
  virtual Result<std::string> save() {
    return fail(Code::kInvalid, "a virtio device of type {} cannot be kept in a snapshot", type());
  }
  // Of a device made anew from the same configuration, before it is activated. kCorrupt: it is no
  // state of such a device; kInvalid: the host has not got what it needs.
  virtual Result<void> restore(std::string_view) {
    return fail(Code::kInvalid, "a virtio device of type {} is in no snapshot", type());
  }
};

// What one turn of a device on the loop does at most, and one request more.
struct TurnLimits {
  int requests = kQueueSizeMax;
  uint64_t bytes = 0;
};

// One turn over a queue: `may_go_on()` is asked before each request is taken, `serve(chain)` gives
// how many bytes of it were written, nullopt if it will be used later. Tells the driver at the end.
template <class MayGoOn, class Serve>
VirtioDevice::Progress take_turn(const VirtioDevice::Active& active, Queue& queue, Chain& chain,
                                 TurnLimits left, MayGoOn may_go_on, Serve serve) {
  VirtioDevice::Progress progress = VirtioDevice::Progress::kDone;
  while (may_go_on()) {
    if (left.requests == 0 || left.bytes == 0) {
      progress = VirtioDevice::Progress::kMore;
      break;
    }
    const Queue::Popped popped = queue.pop(active.memory, chain);
    if (popped == Queue::Popped::kBroken) {
      active.interrupt.needs_reset();
      return VirtioDevice::Progress::kDone;
    }
    if (popped == Queue::Popped::kEmpty) {
      if (queue.enable_notification(active.memory)) continue;
      break;
    }
    --left.requests;
    left.bytes -= std::min(left.bytes, chain.readable_bytes + chain.writable_bytes);
    const uint16_t head = chain.head;
    if (const std::optional<uint32_t> written = serve(chain))
      queue.push_used(active.memory, head, *written);
  }
  if (queue.wants_interrupt(active.memory)) active.interrupt.queue_used();
  return progress;
}

}  // namespace hob::microvm
