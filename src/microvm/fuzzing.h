// For fuzz targets of devices: a guest's memory whose beginning is the input, and nobody who
// listens.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/assert.h"
#include "microvm/virtio/device.h"

namespace hob::microvm::fuzzing {

struct IgnoredInterrupts final : DeviceInterrupt {
  void queue_used() override {}
  void configuration_changed() override {}
  void needs_reset() override {}
};

inline constexpr size_t kInputBytesMax = 0x8000;  // what is behind it reads as zeros

inline GuestMemory memory_from(const uint8_t* data, size_t size, uint64_t bytes) {
  const GuestMemory::Region range{.base = 0, .bytes = bytes};
  auto memory = GuestMemory::create(std::span(&range, 1), GuestMemory::Pages::kNormal, true);
  HOB_ASSERT(memory.has_value());
  HOB_ASSERT(
      memory->write_bytes(0, std::as_bytes(std::span(data, std::min(size, kInputBytesMax)))));
  return *std::move(memory);
}

// A queue of 16 whose table and rings lie from `base` on.
inline Queue queue_at(GuestAddress base, const GuestMemory& memory, bool event_index) {
  Queue queue(kQueueSizeMax);
  queue.layout() = {
      .size = 16, .descriptors = base, .available = base + 0x100, .used = base + 0x200};
  queue.ready = true;
  HOB_ASSERT(queue.start(memory, event_index));
  return queue;
}

}  // namespace hob::microvm::fuzzing
