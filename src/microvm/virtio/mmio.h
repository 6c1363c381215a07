// virtio over memory-mapped registers, version 2 (virtio 1.2, section 4.2).
#pragma once

#include <atomic>
#include <boost/describe.hpp>
#include <memory>
#include <mutex>
#include <vector>

#include "microvm/devices/bus.h"
#include "microvm/devices/event.h"
#include "microvm/loop.h"
#include "microvm/memory/guest_memory.h"
#include "microvm/virtio/device.h"

namespace hob::microvm {

// For snapshots.
struct TransportState {
  uint64_t driver_features = 0;
  uint32_t device_features_select = 0;
  uint32_t driver_features_select = 0;
  uint32_t queue_select = 0;
  uint32_t status = 0;
  bool active = false;
  uint32_t interrupt_status = 0;
  uint32_t configuration_generation = 0;
  bool needs_reset = false;
  std::vector<QueueState> queues{};
};
BOOST_DESCRIBE_STRUCT(TransportState, (),
                      (driver_features, device_features_select, driver_features_select,
                       queue_select, status, active, interrupt_status, configuration_generation,
                       needs_reset, queues))

class VirtioMmio final : public BusDevice, public DeviceInterrupt {
 public:
  // All must outlive it. Notifications of queues come through `loop`.
  static Result<std::unique_ptr<VirtioMmio>> create(VirtioDevice& device, GuestMemory& memory,
                                                    EventWiring& wiring, Loop& loop, uint64_t base,
                                                    uint32_t gsi);
  ~VirtioMmio() override;

  void read(uint64_t offset, std::span<std::byte> data) override;
  void write(uint64_t offset, std::span<const std::byte> data) override;

  // Of a machine that is paused.
  TransportState save();
  // Before the CPUs run, once the device has its own state: sets the registers, activates the
  // device, and looks at all queues and interrupts anew, since an event that was on its way when
  // the snapshot was taken is not in it. kCorrupt: a driver could not have brought it there.
  Result<void> restore(const TransportState& state);
  // Paused, the device does nothing but answer register accesses; resumed, it looks at all of its
  // queues and sources. On the loop.
  void pause();
  void resume();
  // Holds the device still, for who looks at it or changes it from the loop.
  std::unique_lock<std::mutex> hold() { return std::unique_lock(mutex_); }

  uint64_t interrupts() const { return interrupts_; }
  uint64_t configuration_changes() const { return configuration_generation_; }

  void queue_used() override;
  void configuration_changed() override;
  void needs_reset() override;

 private:
  VirtioMmio(VirtioDevice& device, GuestMemory& memory, Loop& loop);
  uint32_t read_register(uint64_t offset);
  void write_register(uint64_t offset, uint32_t value);
  void write_status(uint32_t value);
  void reset();
  bool start_queues();
  Queue* selected();
  void notified(size_t index);
  void host_ready(size_t index);
  void look_at_sources();

  VirtioDevice& device_;
  GuestMemory& memory_;
  Loop& loop_;
  std::mutex mutex_;
  Event interrupt_;
  std::vector<Event> notifications_;  // one a queue
  std::vector<VirtioDevice::Source> sources_;
  std::vector<Queue> queues_;
  uint64_t driver_features_ = 0;
  uint32_t device_features_select_ = 0;
  uint32_t driver_features_select_ = 0;
  uint32_t queue_select_ = 0;
  uint32_t status_ = 0;
  bool active_ = false;
  bool paused_ = false;
  std::atomic<uint32_t> interrupt_status_ = 0;
  std::atomic<uint32_t> configuration_generation_ = 0;
  std::atomic<bool> needs_reset_ = false;
  std::atomic<uint64_t> interrupts_ = 0;
};

}  // namespace hob::microvm
