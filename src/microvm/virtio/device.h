// What every virtio device offers to its transport (virtio 1.2, section 2). One shape for all:
// virtio/block.h is the one to read first.
//
// The transport calls with the device's lock held, from vCPU threads (registers) and from the loop
// (queues).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

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
  // Ends all activity; the queues are not touched any more when it returns.
  virtual void reset() = 0;
};

}  // namespace hob::microvm
