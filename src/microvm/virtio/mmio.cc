#include "microvm/virtio/mmio.h"

#include <algorithm>

namespace hob::microvm {
namespace {

// Registers of 4.2.2.
enum : uint64_t {
  kMagic = 0x000,
  kVersion = 0x004,
  kDeviceId = 0x008,
  kVendorId = 0x00c,
  kDeviceFeatures = 0x010,
  kDeviceFeaturesSelect = 0x014,
  kDriverFeatures = 0x020,
  kDriverFeaturesSelect = 0x024,
  kQueueSelect = 0x030,
  kQueueSizeMaxRegister = 0x034,
  kQueueSize = 0x038,
  kQueueReady = 0x044,
  kQueueNotify = 0x050,
  kInterruptStatus = 0x060,
  kInterruptAcknowledge = 0x064,
  kStatus = 0x070,
  kDescriptorsLow = 0x080,
  kDescriptorsHigh = 0x084,
  kAvailableLow = 0x090,
  kAvailableHigh = 0x094,
  kUsedLow = 0x0a0,
  kUsedHigh = 0x0a4,
  kGeneration = 0x0fc,
  kConfiguration = 0x100,
};
constexpr uint32_t kMagicValue = 0x74726976;  // "virt"
constexpr uint32_t kInterruptUsed = 1;
constexpr uint32_t kInterruptConfiguration = 2;

// Device status, 2.1.
constexpr uint32_t kAcknowledge = 1;
constexpr uint32_t kDriver = 2;
constexpr uint32_t kDriverOk = 4;
constexpr uint32_t kFeaturesOk = 8;
constexpr uint32_t kNeedsReset = 64;
constexpr uint32_t kFailed = 128;

void set_half(uint64_t& address, bool high, uint32_t value) {
  address = high ? (address & 0xffffffff) | uint64_t{value} << 32
                 : (address & ~uint64_t{0xffffffff}) | value;
}

}  // namespace

VirtioMmio::VirtioMmio(VirtioDevice& device, GuestMemory& memory, Loop& loop)
    : device_(device), memory_(memory), loop_(loop) {
  for (const uint16_t size : device.queue_sizes()) queues_.emplace_back(size);
}

Result<std::unique_ptr<VirtioMmio>> VirtioMmio::create(VirtioDevice& device, GuestMemory& memory,
                                                       EventWiring& wiring, Loop& loop,
                                                       uint64_t base, uint32_t gsi) {
  std::unique_ptr<VirtioMmio> mmio(new VirtioMmio(device, memory, loop));
  HOB_TRY(mmio->interrupt_, Event::create());
  HOB_CHECK(wiring.raise_by(mmio->interrupt_.fd(), gsi));
  for (size_t i = 0; i < mmio->queues_.size(); ++i) {
    HOB_TRY(Event event, Event::create());
    HOB_CHECK(wiring.notify_on_write(base + kQueueNotify, 4, static_cast<uint32_t>(i), event.fd()));
    HOB_CHECK(
        loop.watch(event.fd(), EPOLLIN, [mmio = mmio.get(), i](uint32_t) { mmio->notified(i); }));
    mmio->notifications_.push_back(std::move(event));
  }
  for (const VirtioDevice::Source& source : device.sources()) {
    HOB_CHECK(loop.watch(
        source.fd, source.events | EPOLLET,
        [mmio = mmio.get(), i = mmio->sources_.size()](uint32_t) { mmio->host_ready(i); }));
    mmio->sources_.push_back(source);
  }
  return mmio;
}

VirtioMmio::~VirtioMmio() {
  for (const Event& event : notifications_) loop_.forget(event.fd());
  for (const VirtioDevice::Source& source : sources_) loop_.forget(source.fd);
}

void VirtioMmio::notified(size_t index) {
  notifications_[index].take();
  const std::lock_guard lock(mutex_);
  if (!active_ || paused_ || !queues_[index].ready) return;
  if (device_.notified(index) == VirtioDevice::Progress::kMore) notifications_[index].signal();
}

void VirtioMmio::host_ready(size_t index) {
  const std::lock_guard lock(mutex_);
  if (!active_ || paused_) return;
  // The source may have been used up meanwhile (a timer armed anew), so the queues wake us.
  if (device_.host_ready(index) == VirtioDevice::Progress::kMore)
    for (const Event& event : notifications_) event.signal();
}

// What became ready while nobody listened is told again: so epoll does when it is asked anew.
void VirtioMmio::look_at_sources() {
  for (const VirtioDevice::Source& source : sources_)
    (void)loop_.change(source.fd, source.events | EPOLLET);
}

void VirtioMmio::pause() {
  const std::lock_guard lock(mutex_);
  paused_ = true;
  if (active_) device_.settle();
}

void VirtioMmio::resume() {
  const std::lock_guard lock(mutex_);
  paused_ = false;
  for (const Event& event : notifications_) event.signal();
  look_at_sources();
}

void VirtioMmio::read(uint64_t offset, std::span<std::byte> data) {
  const std::lock_guard lock(mutex_);
  if (offset >= kConfiguration) return device_.read_configuration(offset - kConfiguration, data);
  // Registers are read whole and aligned; anything else is no access of theirs.
  put_number(data, data.size() == 4 && offset % 4 == 0 ? read_register(offset) : 0);
}

void VirtioMmio::write(uint64_t offset, std::span<const std::byte> data) {
  const std::lock_guard lock(mutex_);
  if (offset >= kConfiguration) {
    if ((status_ & kDriver) != 0) device_.write_configuration(offset - kConfiguration, data);
    return;
  }
  if (data.size() == 4 && offset % 4 == 0)
    write_register(offset, static_cast<uint32_t>(number_of(data)));
}

Queue* VirtioMmio::selected() {
  return queue_select_ < queues_.size() ? &queues_[queue_select_] : nullptr;
}

uint32_t VirtioMmio::read_register(uint64_t offset) {
  const Queue* queue = selected();
  switch (offset) {
    case kMagic:
      return kMagicValue;
    case kVersion:
      return 2;
    case kDeviceId:
      return device_.type();
    case kVendorId:
      return 0;
    case kDeviceFeatures:
      if (device_features_select_ > 1) return 0;
      return static_cast<uint32_t>(device_.features() >> (32 * device_features_select_));
    case kQueueSizeMaxRegister:
      return queue != nullptr ? queue->size_max() : 0;
    case kQueueReady:
      return queue != nullptr && queue->ready ? 1 : 0;
    case kInterruptStatus:
      return interrupt_status_.load();
    case kStatus:
      return status_ | (needs_reset_.load() ? kNeedsReset : 0);
    case kGeneration:
      return configuration_generation_.load();
    default:
      return 0;
  }
}

void VirtioMmio::write_register(uint64_t offset, uint32_t value) {
  // Queues are set up between FEATURES_OK and DRIVER_OK, features before (3.1.1).
  const bool negotiating = (status_ & kDriver) != 0 && (status_ & (kFeaturesOk | kFailed)) == 0;
  const bool setting_up = (status_ & kFeaturesOk) != 0 && (status_ & (kDriverOk | kFailed)) == 0;
  Queue* queue = setting_up ? selected() : nullptr;
  switch (offset) {
    case kDeviceFeaturesSelect:
      device_features_select_ = value;
      return;
    case kDriverFeaturesSelect:
      driver_features_select_ = value;
      return;
    case kDriverFeatures:
      if (negotiating && driver_features_select_ <= 1)
        set_half(driver_features_, driver_features_select_ == 1, value);
      return;
    case kQueueSelect:
      queue_select_ = value;
      return;
    case kQueueSize:
      if (queue != nullptr && !queue->ready)
        queue->layout().size = static_cast<uint16_t>(std::min(value, 0xffffu));
      return;
    case kQueueReady:
      if (queue != nullptr) queue->ready = value == 1;
      return;
    case kInterruptAcknowledge:
      interrupt_status_.fetch_and(~value);
      return;
    case kStatus:
      return write_status(value);
    case kDescriptorsLow:
    case kDescriptorsHigh:
      if (queue != nullptr && !queue->ready)
        set_half(queue->layout().descriptors, offset == kDescriptorsHigh, value);
      return;
    case kAvailableLow:
    case kAvailableHigh:
      if (queue != nullptr && !queue->ready)
        set_half(queue->layout().available, offset == kAvailableHigh, value);
      return;
    case kUsedLow:
    case kUsedHigh:
      if (queue != nullptr && !queue->ready)
        set_half(queue->layout().used, offset == kUsedHigh, value);
      return;
    // A notification that no eventfd took names a queue that is not there.
    default:
      return;
  }
}

void VirtioMmio::write_status(uint32_t value) {
  if (value == 0) return reset();
  value &= ~kNeedsReset;  // ours to set; drivers write back what they read
  const uint32_t added = value & ~status_;
  // Bits are set one after the other, and never taken back but by a reset.
  if ((status_ & ~value) != 0) return;
  if ((added & kFailed) != 0) {
    status_ |= kFailed;
    return;
  }
  if (added == kAcknowledge && status_ == 0) status_ = value;
  if (added == kDriver && status_ == kAcknowledge) status_ = value;
  if (added == kFeaturesOk && status_ == (kAcknowledge | kDriver)) {
    // Left unset, it says that the choice is not taken (2.2).
    const bool taken =
        (driver_features_ & ~device_.features()) == 0 && (driver_features_ & kFeatureVersion1) != 0;
    if (taken) status_ = value;
  }
  if (added == kDriverOk && status_ == (kAcknowledge | kDriver | kFeaturesOk)) {
    status_ = value;
    if (!start_queues()) return needs_reset();
    active_ = true;
    device_.activate(
        {.memory = memory_, .queues = queues_, .interrupt = *this, .features = driver_features_});
    // Linux's balloon offers its first buffer before it is ready, and tells of it no more.
    for (const Event& event : notifications_) event.signal();
    look_at_sources();
  }
}

bool VirtioMmio::start_queues() {
  const bool event_index = (driver_features_ & kFeatureEventIndex) != 0;
  return std::ranges::all_of(
      queues_, [&](Queue& queue) { return !queue.ready || queue.start(memory_, event_index); });
}

TransportState VirtioMmio::save() {
  const std::lock_guard lock(mutex_);
  TransportState state{.driver_features = driver_features_,
                       .device_features_select = device_features_select_,
                       .driver_features_select = driver_features_select_,
                       .queue_select = queue_select_,
                       .status = status_,
                       .active = active_,
                       .interrupt_status = interrupt_status_.load(),
                       .configuration_generation = configuration_generation_.load(),
                       .needs_reset = needs_reset_.load()};
  for (const Queue& queue : queues_) state.queues.push_back(queue.save());
  return state;
}

Result<void> VirtioMmio::restore(const TransportState& state) {
  const std::lock_guard lock(mutex_);
  if (state.queues.size() != queues_.size())
    return fail(Code::kCorrupt, "a device of {} queues has {}", queues_.size(),
                state.queues.size());
  const bool chosen = (state.driver_features & ~device_.features()) == 0;
  if (!chosen || (state.active && (state.status & kDriverOk) == 0))
    return fail(Code::kCorrupt, "a device's driver chose what it was not offered");
  driver_features_ = state.driver_features;
  device_features_select_ = state.device_features_select;
  driver_features_select_ = state.driver_features_select;
  queue_select_ = state.queue_select;
  status_ = state.status;
  interrupt_status_ = state.interrupt_status;
  configuration_generation_ = state.configuration_generation;
  needs_reset_ = state.needs_reset;
  for (size_t i = 0; i < queues_.size(); ++i) queues_[i].restore(state.queues[i]);
  if (state.active) {
    if (!start_queues()) return fail(Code::kCorrupt, "a device's queues break virtio's rules");
    active_ = true;
    device_.activate(
        {.memory = memory_, .queues = queues_, .interrupt = *this, .features = driver_features_});
    for (const Event& event : notifications_) event.signal();
  }
  if (interrupt_status_ != 0) interrupt_.signal();
  return {};
}

void VirtioMmio::reset() {
  if (active_) device_.reset();
  active_ = false;
  for (Queue& queue : queues_) queue.reset();
  status_ = driver_features_select_ = device_features_select_ = queue_select_ = 0;
  driver_features_ = 0;
  interrupt_status_ = 0;
  needs_reset_ = false;
}

void VirtioMmio::queue_used() {
  ++interrupts_;
  interrupt_status_.fetch_or(kInterruptUsed);
  interrupt_.signal();
}

void VirtioMmio::configuration_changed() {
  ++interrupts_;
  configuration_generation_.fetch_add(1);
  interrupt_status_.fetch_or(kInterruptConfiguration);
  interrupt_.signal();
}

void VirtioMmio::needs_reset() {
  needs_reset_ = true;
  configuration_changed();
}

}  // namespace hob::microvm
