// A guest that reads and writes any register of any device, in any order and width: the buses, the
// transport's states, COM1, the keyboard controller, and the devices behind as they come up, are
// reset, and are saved.
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <map>

#include "microvm/devices/i8042.h"
#include "microvm/devices/serial.h"
#include "microvm/fuzzing.h"
#include "microvm/virtio/balloon.h"
#include "microvm/virtio/block.h"
#include "microvm/virtio/entropy.h"
#include "microvm/virtio/mmio.h"

namespace {

using namespace hob::microvm;

constexpr uint64_t kMemoryBytes = 0x10000;
constexpr uint64_t kDevicesBase = 0xd000'0000;
constexpr uint64_t kDeviceBytes = 0x1000;
constexpr size_t kDevices = 3;
constexpr size_t kOperationBytes = 8;
constexpr size_t kOperationsMax = 400;
constexpr uint64_t kQueueNotifyRegister = 0x50;
constexpr uint64_t kStatusRegister = 0x70;
constexpr std::array<uint64_t, 24> kRegisters = {0x00, 0x04, 0x08, 0x0c, 0x10, 0x14, 0x20,  0x24,
                                                 0x30, 0x34, 0x38, 0x44, 0x50, 0x60, 0x64,  0x70,
                                                 0x80, 0x84, 0x90, 0x94, 0xa0, 0xa4, 0x100, 0x108};

// KVM's part: who is told of a write to a register of notifications.
class Wiring final : public EventWiring {
 public:
  hob::Result<void> notify_on_write(uint64_t address, uint32_t /*bytes*/, uint32_t value,
                                    int event) override {
    told_[{address, value}] = event;
    return {};
  }
  hob::Result<void> raise_by(int /*event*/, uint32_t /*gsi*/) override { return {}; }
  // False: nobody takes it, it leaves the guest.
  bool written(uint64_t address, uint64_t value) const {
    const auto found = told_.find({address, value});
    if (found == told_.end()) return false;
    const uint64_t one = 1;
    HOB_ASSERT(::write(found->second, &one, sizeof one) == sizeof one);
    return true;
  }

 private:
  std::map<std::pair<uint64_t, uint64_t>, int> told_;
};

class Guest {
 public:
  explicit Guest(GuestMemory memory) : memory_(std::move(memory)) {
    const int file = memfd_create("disk", MFD_CLOEXEC);
    HOB_ASSERT(ftruncate(file, 1 << 16) == 0);
    add(take(Block::create(hob::Fd(file), {.id = "fuzz", .flushes = true})));
    add(take(Entropy::create({})));
    add(take(Balloon::create(
        {.target_mib = 1, .deflate_on_oom = true, .hinting = true, .reporting = true})));
    ports_.insert(0x3f8, 8, serial_);
    ports_.insert(0x60, 5, keyboard_);
  }

  void operate(std::span<const uint8_t, kOperationBytes> operation) {
    const size_t which = operation[1] % kDevices;
    const uint64_t base = kDevicesBase + which * kDeviceBytes;
    const uint64_t known = base + kRegisters[operation[2] % kRegisters.size()];
    const uint64_t any = kDevicesBase + (operation[1] << 8 | operation[2]) % 0x4000;
    const size_t width = size_t{1} << operation[3] % 4;
    const uint64_t value = number_of(std::as_bytes(operation.last<4>()));
    switch (operation[0] % 11) {
      case 0:
        return write(known, value, 4);
      case 1:
        return read(mmio_, known, 4);
      case 2:
        return write(any, value, width);
      case 3:
        return read(mmio_, any, width);
      case 4:
        return write(base + kQueueNotifyRegister, value % 6, 4);
      case 5:
        return loop_->turn(0);
      case 6: {
        std::array<std::byte, 8> data{};
        put_number(data, value);
        return ports_.write(
            operation[2] % 2 == 0 ? 0x3f8 + operation[1] % 8 : 0x60 + operation[1] % 6,
            std::span(data).first(width));
      }
      case 7:
        return read(ports_,
                    operation[2] % 2 == 0 ? 0x3f8 + operation[1] % 8 : 0x60 + operation[1] % 6,
                    width);
      case 8:
        return bring_up(base, operation);
      case 9:
        return write(base + kStatusRegister, 0, 4);
      default:
        transports_[which]->pause();
        (void)transports_[which]->save();
        (void)devices_[which]->save();
        transports_[which]->resume();
        return;
    }
  }

 private:
  template <class T>
  static T take(hob::Result<T> made) {
    HOB_ASSERT(made.has_value());
    return *std::move(made);
  }
  void add(std::unique_ptr<VirtioDevice> device) {
    const uint64_t base = kDevicesBase + transports_.size() * kDeviceBytes;
    devices_.push_back(std::move(device));
    transports_.push_back(
        take(VirtioMmio::create(*devices_.back(), memory_, wiring_, *loop_, base, 5)));
    mmio_.insert(base, kDeviceBytes, *transports_.back());
  }
  void write(uint64_t address, uint64_t value, size_t width) {
    if (width == 4 && wiring_.written(address, value)) return;
    std::array<std::byte, 8> data{};
    put_number(data, value);
    mmio_.write(address, std::span(data).first(width));
  }
  static void read(const Bus& bus, uint64_t address, size_t width) {
    std::array<std::byte, 8> data{};
    bus.read(address, std::span(data).first(width));
  }
  // As a driver does it, with queues where the input wants them.
  void bring_up(uint64_t base, std::span<const uint8_t, kOperationBytes> operation) {
    const auto set = [&](uint64_t at, uint64_t value) { write(base + at, value, 4); };
    set(kStatusRegister, 0);
    set(kStatusRegister, 1);
    set(kStatusRegister, 3);
    set(0x24, 1);
    set(0x20, 1);  // VERSION_1
    set(0x24, 0);
    set(0x20, operation[3] % 2 == 0 ? 0 : uint64_t{1} << 29);
    set(kStatusRegister, 11);
    for (uint64_t queue = 0; queue < 4; ++queue) {
      const uint64_t table = (operation[4 + queue] << 4) * 0x10;
      set(0x30, queue);
      set(0x38, uint64_t{1} << operation[2] % 10);
      set(0x80, table);
      set(0x90, table + 0x100);
      set(0xa0, table + 0x200);
      set(0x44, 1);
    }
    set(kStatusRegister, 15);
  }

  GuestMemory memory_;
  std::unique_ptr<Loop> loop_ = take(Loop::create());
  Wiring wiring_;
  Event interrupt_ = take(Event::create());
  Serial serial_{interrupt_, [](std::byte) {}};
  I8042 keyboard_{interrupt_, [] {}};
  std::vector<std::unique_ptr<VirtioDevice>> devices_;
  std::vector<std::unique_ptr<VirtioMmio>> transports_;
  Bus mmio_;
  Bus ports_;
};

}  // namespace

// The first two bytes say how many operations follow them; all of it is the guest's memory, too.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  Guest guest(fuzzing::memory_from(data, size, kMemoryBytes));
  const size_t operations = std::min<size_t>((data[0] << 8 | data[1]) % (kOperationsMax + 1),
                                             (size - 2) / kOperationBytes);
  for (size_t i = 0; i < operations; ++i)
    guest.operate(
        std::span<const uint8_t, kOperationBytes>(data + 2 + i * kOperationBytes, kOperationBytes));
  return 0;
}
