// A machine's devices: put in their places, and changed while it runs.
#include <fmt/core.h>

#include <algorithm>

#include "base/assert.h"
#include "microvm/layout.h"
#include "microvm/machine/machine.h"

namespace hob::microvm {
namespace {

// Where something that begins behind `end` lies.
GuestAddress placed_high(GuestAddress end) {
  return (end + layout::kHighPlacement - 1) / layout::kHighPlacement * layout::kHighPlacement;
}

}  // namespace

Result<void> Machine::attach_consoles(const MachineOptions& options) {
  HOB_TRY(Event serial_interrupt, Event::create());
  serial_interrupt_ = std::make_unique<Event>(std::move(serial_interrupt));
  HOB_CHECK(vm_->raise_by(serial_interrupt_->fd(), layout::kSerialGsi));
  HOB_TRY(console_, Console::create(loop_, {.input = options.console_input,
                                            .output = options.console,
                                            .limit = options.console_limit}));
  serial_ = std::make_unique<Serial>(
      *serial_interrupt_, [this](std::byte byte) { console_->write(byte); },
      [this] { console_->has_room(); });
  console_->read_into([this](std::span<const std::byte> bytes) { return serial_->type(bytes); });
  ports_.insert(layout::kSerialPort, 8, *serial_);
  HOB_TRY(Event keyboard_interrupt, Event::create());
  keyboard_interrupt_ = std::make_unique<Event>(std::move(keyboard_interrupt));
  HOB_CHECK(vm_->raise_by(keyboard_interrupt_->fd(), layout::kI8042Gsi));
  keyboard_ = std::make_unique<I8042>(*keyboard_interrupt_,
                                      [this] { ended({.reason = "the guest reset the machine"}); });
  ports_.insert(layout::kI8042Data, layout::kI8042Command - layout::kI8042Data + 1, *keyboard_);
  return {};
}

Result<void> Machine::attach_balloon(const BalloonOptions& options) {
  HOB_TRY(std::unique_ptr<Balloon> balloon, Balloon::create(options));
  Balloon* device = balloon.get();
  HOB_TRY(VirtioMmio * transport, attach(std::move(balloon)));
  balloon_ = {.id = "balloon", .device = device, .transport = transport};
  return {};
}

Held<Balloon> Machine::hold_balloon() {
  HOB_ASSERT(balloon_.device != nullptr);
  return {.lock = balloon_.transport->hold(), .device = balloon_.device};
}

Result<void> Machine::attach_drives(std::vector<DriveFile> drives) {
  for (DriveFile& drive : drives) {
    HOB_TRY(std::unique_ptr<Block> block,
            Block::create(std::move(drive.file), {.id = drive.id,
                                                  .read_only = drive.read_only,
                                                  .flushes = drive.flushes,
                                                  .asynchronous = drive.asynchronous,
                                                  .limit = drive.limit}));
    Block* device = block.get();
    HOB_TRY(VirtioMmio * transport, attach(std::move(block)));
    drives_.push_back({.id = drive.id, .device = device, .transport = transport});
  }
  return {};
}

Result<void> Machine::attach_interfaces(std::vector<InterfaceTap> interfaces) {
  for (InterfaceTap& interface : interfaces) {
    HOB_TRY(std::unique_ptr<Net> net,
            Net::create(std::move(interface.tap), std::move(interface.options)));
    Net* device = net.get();
    HOB_TRY(VirtioMmio * transport, attach(std::move(net)));
    interfaces_.push_back({.id = interface.id, .device = device, .transport = transport});
  }
  return {};
}

// One after the other, where a saved machine's were too.
Result<void> Machine::attach_pmems(std::vector<PmemFile> pmems) {
  const GuestMemory::Region& last = memory_.regions().back();
  next_base_ = placed_high(std::max(layout::kFourGib, last.base + last.bytes));
  for (PmemFile& file : pmems) {
    HOB_TRY(std::unique_ptr<Pmem> pmem,
            Pmem::create(std::move(file.file),
                         {.id = file.id, .read_only = file.read_only, .limit = file.limit}));
    pmem->place(next_base_);
    HOB_CHECK(vm_->set_memory({.slot = next_slot_++,
                               .guest_base = next_base_,
                               .bytes = pmem->bytes(),
                               .host = pmem->host(),
                               .read_only = pmem->read_only()}));
    next_base_ += pmem->bytes();
    Pmem* device = pmem.get();
    HOB_TRY(VirtioMmio * transport, attach(std::move(pmem)));
    pmems_.push_back({.id = file.id, .device = device, .transport = transport});
  }
  return {};
}

Result<void> Machine::attach_vsock(VsockSocket vsock) {
  HOB_TRY(std::unique_ptr<Vsock> device,
          Vsock::create(vsock.guest_cid, std::move(vsock.listener), std::move(vsock.path), loop_));
  vsock_ = device.get();
  HOB_CHECK(attach(std::move(device)));
  return {};
}

Result<void> Machine::attach_entropy(const EntropyOptions& options) {
  HOB_TRY(std::unique_ptr<Entropy> entropy, Entropy::create(options));
  Entropy* device = entropy.get();
  HOB_TRY(VirtioMmio * transport, attach(std::move(entropy)));
  entropy_.emplace(Attached<Entropy>{.id = "entropy", .device = device, .transport = transport});
  return {};
}

Result<void> Machine::attach_hot_plug(const HotPlugOptions& options, GuestMemory::Pages pages) {
  const MemOptions mem{
      .start = placed_high(next_base_), .total = options.total << 20, .block = options.block << 20};
  HOB_CHECK(memory_.add_hot_range(mem.start, mem.total, mem.block, pages));
  hot_slot_bytes_ = options.slot << 20;
  hot_slots_.resize(options.total / options.slot);
  first_hot_slot_ = next_slot_;
  const int slots = kvm_->extension(KVM_CAP_NR_MEMSLOTS);
  if (slots <= 0 || hot_slots_.size() > static_cast<size_t>(slots) - first_hot_slot_)
    return fail(Code::kLimit, "KVM has {} slots of memory, too few for slots of {} MiB", slots,
                options.slot);
  auto device =
      std::make_unique<Mem>(mem, [this](Mem::Change change, GuestAddress start, uint64_t bytes) {
        return change_hot_range(change, start, bytes);
      });
  hot_plug_.device = device.get();
  HOB_TRY(hot_plug_.transport, attach(std::move(device)));
  return {};
}

// KVM knows of the slots in which there is memory, and of no others.
bool Machine::change_hot_range(Mem::Change change, GuestAddress start, uint64_t bytes) {
  const bool plug = change == Mem::Change::kPlug;
  if (!(plug ? memory_.plug(start, bytes) : memory_.unplug(start, bytes))) return false;
  const GuestMemory::Region& range = memory_.hot_range();
  const uint64_t first = (start - range.base) / hot_slot_bytes_;
  const uint64_t last = (start - range.base + bytes - 1) / hot_slot_bytes_;
  for (uint64_t i = first; i <= last; ++i) {
    const GuestAddress base = range.base + i * hot_slot_bytes_;
    const bool wanted = memory_.any_plugged(base, hot_slot_bytes_);
    if (hot_slots_[i] == wanted) continue;
    const auto told = vm_->set_memory({.slot = first_hot_slot_ + static_cast<uint32_t>(i),
                                       .guest_base = base,
                                       .bytes = wanted ? hot_slot_bytes_ : 0,
                                       .host = range.host + i * hot_slot_bytes_});
    if (told) hot_slots_[i] = wanted;
    if (!told && plug) {
      (void)memory_.unplug(start, bytes);
      return false;
    }
  }
  return true;
}

Held<Mem> Machine::hold_hot_plug() {
  HOB_ASSERT(hot_plug_.device != nullptr);
  return {.lock = hot_plug_.transport->hold(), .device = hot_plug_.device};
}

Result<VirtioMmio*> Machine::attach(std::unique_ptr<VirtioDevice> device) {
  HOB_TRY(const MmioPlace place, mmio_place(transports_.size()));
  devices_.push_back(std::move(device));
  HOB_TRY(std::unique_ptr<VirtioMmio> transport,
          VirtioMmio::create(*devices_.back(), memory_, *vm_, loop_, place.base, place.gsi));
  mmio_.insert(place.base, layout::kVirtioMmioBytes, *transport);
  transports_.push_back(std::move(transport));
  return transports_.back().get();
}

Result<RateLimiterOptions> Machine::change_drive(std::string_view id, std::optional<Fd> file,
                                                 const RateLimiterOptions& limit) {
  const auto found = std::ranges::find(drives_, id, &Attached<Block>::id);
  if (found == drives_.end()) return fail(Code::kNotFound, "no drive {}", id);
  const auto held = found->transport->hold();
  if (file) HOB_CHECK(found->device->replace_file(*std::move(file)));
  found->device->set_limit(limit);
  return found->device->limit();
}

Result<Net::Limits> Machine::limit_interface(std::string_view id, const Net::Limits& limits) {
  const auto found = std::ranges::find(interfaces_, id, &Attached<Net>::id);
  if (found == interfaces_.end()) return fail(Code::kNotFound, "no interface {}", id);
  const auto held = found->transport->hold();
  found->device->set_limits(limits);
  return found->device->limits();
}

Result<RateLimiterOptions> Machine::limit_pmem(std::string_view id,
                                               const RateLimiterOptions& limit) {
  const auto found = std::ranges::find(pmems_, id, &Attached<Pmem>::id);
  if (found == pmems_.end()) return fail(Code::kNotFound, "no persistent memory {}", id);
  const auto held = found->transport->hold();
  found->device->set_limit(limit);
  return found->device->limit();
}

}  // namespace hob::microvm
