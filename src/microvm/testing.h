// For tests: a guest's memory without a guest, and a driver that speaks to a device through it.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <initializer_list>
#include <string_view>

#include "microvm/memory/guest_memory.h"
#include "microvm/virtio/device.h"
#include "microvm/virtio/queue.h"

namespace hob::microvm::testing {

inline GuestMemory memory_of(uint64_t bytes, bool track_dirty = false) {
  const GuestMemory::Region range{.base = 0, .bytes = bytes};
  auto memory = GuestMemory::create(std::span(&range, 1), GuestMemory::Pages::kNormal, track_dirty);
  EXPECT_TRUE(memory) << (memory ? "" : memory.error().message);
  return *std::move(memory);
}

inline void put(GuestMemory& memory, GuestAddress address, std::string_view bytes) {
  EXPECT_TRUE(memory.write_bytes(address, std::as_bytes(std::span(bytes))));
}

inline std::string get(const GuestMemory& memory, GuestAddress address, size_t bytes) {
  std::string text(bytes, '\0');
  EXPECT_TRUE(memory.read_bytes(address, std::as_writable_bytes(std::span(text))));
  return text;
}

// The driver's side of one queue of 8: descriptors at `base`, rings behind, 0x3000 bytes in all.
class Driver {
 public:
  static constexpr uint16_t kSize = 8;
  enum : uint16_t { kNext = 1, kWrite = 2 };

  Driver(GuestMemory& memory, Queue& queue, GuestAddress base = 0x1000)
      : memory_(memory), base_(base) {
    queue.layout() = {
        .size = kSize, .descriptors = base, .available = available(), .used = used_ring()};
    queue.ready = true;
  }

  void descriptor(uint16_t index, GuestAddress address, uint32_t bytes, uint16_t flags,
                  uint16_t next = 0) {
    const GuestAddress at = base_ + 16 * index;
    EXPECT_TRUE(memory_.write(at, address) && memory_.write(at + 8, bytes) &&
                memory_.write(at + 12, flags) && memory_.write(at + 14, next));
  }
  void offer(uint16_t head) {
    EXPECT_TRUE(memory_.write(available() + 4 + 2 * (next_ % kSize), head));
    set_available(++next_);
  }
  void set_available(uint16_t index) { EXPECT_TRUE(memory_.write(available() + 2, index)); }
  uint16_t used() const { return *memory_.read<uint16_t>(used_ring() + 2); }
  uint32_t used_bytes(uint16_t index) const {
    return *memory_.read<uint32_t>(used_ring() + 4 + 8 * (index % kSize) + 4);
  }
  // The device shall interrupt when it has used up to `index`.
  void set_used_event(uint16_t index) {
    EXPECT_TRUE(memory_.write(available() + 4 + 2 * kSize, index));
  }

 private:
  GuestAddress available() const { return base_ + 0x1000; }
  GuestAddress used_ring() const { return base_ + 0x2000; }
  GuestMemory& memory_;
  const GuestAddress base_;
  uint16_t next_ = 0;
};

struct Interrupts final : DeviceInterrupt {
  void queue_used() override { ++used; }
  void configuration_changed() override { ++changed; }
  void needs_reset() override { ++broken; }
  int used = 0, changed = 0, broken = 0;
};

}  // namespace hob::microvm::testing
