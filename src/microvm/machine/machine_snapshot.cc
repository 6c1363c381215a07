// A machine's state out of it, and a machine made from it.
#include <sys/random.h>
#include <time.h>

#include <array>
#include <cerrno>

#include "base/assert.h"
#include "microvm/layout.h"
#include "microvm/machine/machine.h"
#include "microvm/machine/vcpu_state.h"

namespace hob::microvm {
namespace {

int64_t wall_clock_ns() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

}  // namespace

Result<void> Machine::write_generation_id() {
  std::array<std::byte, layout::kVmGenIdBytes> id{};
  if (getrandom(id.data(), id.size(), 0) != static_cast<ssize_t>(id.size()))
    return fail_errno(errno, "drawing a generation id");
  if (!memory_.write_bytes(layout::kVmGenId, id))
    return fail(Code::kInvalid, "the guest's memory has no room for its generation id");
  return {};
}

Result<void> Machine::collect_dirty() {
  HOB_ASSERT(!running_);
  for (size_t i = 0; i < memory_.dirty().size(); ++i) {
    HOB_TRY(const std::vector<uint64_t> pages,
            vm_->take_dirty(static_cast<uint32_t>(i), memory_.regions()[i].bytes));
    memory_.dirty()[i].mark(pages);
  }
  return {};
}

Result<MachineState> Machine::save() {
  HOB_ASSERT(!running_);
  MachineState state;
  for (const auto& vcpu : vcpus_) {
    HOB_TRY(VcpuState saved, save_vcpu(*kvm_, vcpu->kvm()));
    state.vcpus.push_back(std::move(saved));
  }
  state.first_pic.chip_id = KVM_IRQCHIP_PIC_MASTER;
  state.second_pic.chip_id = KVM_IRQCHIP_PIC_SLAVE;
  state.ioapic.chip_id = KVM_IRQCHIP_IOAPIC;
  for (kvm_irqchip* chip : {&state.first_pic, &state.second_pic, &state.ioapic})
    HOB_CHECK(vm_->get(KVM_GET_IRQCHIP, *chip, "KVM_GET_IRQCHIP"));
  HOB_CHECK(vm_->get(KVM_GET_CLOCK, state.clock, "KVM_GET_CLOCK"));
  state.taken_at_ns = wall_clock_ns();
  state.serial = serial_->save();
  state.keyboard = keyboard_->save();
  for (size_t i = 0; i < devices_.size(); ++i) {
    HOB_TRY(std::string device, devices_[i]->save());
    state.devices.push_back({.type = devices_[i]->type(),
                             .transport = transports_[i]->save(),
                             .device = std::move(device)});
  }
  return state;
}

Result<std::unique_ptr<Machine>> Machine::restore(MachineOptions options, GuestMemory memory,
                                                  const MachineState& state, Clock clock,
                                                  Loop& loop,
                                                  std::function<void(const VcpuEnd&)> on_end) {
  if (state.vcpus.size() != options.vcpus)
    return fail(Code::kCorrupt, "the state of {} vCPUs for {}", state.vcpus.size(), options.vcpus);
  HOB_TRY(std::unique_ptr<Machine> machine,
          assemble(options, std::move(memory), loop, std::move(on_end)));
  HOB_CHECK(machine->restore_state(state, clock));
  return machine;
}

Result<void> Machine::restore_state(const MachineState& state, Clock clock) {
  if (state.devices.size() != devices_.size())
    return fail(Code::kCorrupt, "the state of {} devices for {}", state.devices.size(),
                devices_.size());
  const int64_t forward_ns =
      clock == Clock::kForward
          ? std::max<int64_t>(0, wall_clock_ns() - std::max<int64_t>(0, state.taken_at_ns))
          : 0;
  HOB_CHECK(
      start_vcpus(static_cast<uint32_t>(state.vcpus.size()), [&](uint32_t index, KvmVcpu& vcpu) {
        return restore_vcpu(*kvm_, vcpu, state.vcpus[index], forward_ns);
      }));
  // After the CPUs: what waits in it goes to their LAPICs.
  const std::array<std::pair<const kvm_irqchip*, uint32_t>, 3> chips = {
      {{&state.first_pic, KVM_IRQCHIP_PIC_MASTER},
       {&state.second_pic, KVM_IRQCHIP_PIC_SLAVE},
       {&state.ioapic, KVM_IRQCHIP_IOAPIC}}};
  for (const auto& [chip, id] : chips) {
    if (chip->chip_id != id) return fail(Code::kCorrupt, "the interrupt controllers are mixed up");
    HOB_CHECK(vm_->set(KVM_SET_IRQCHIP, *chip, "KVM_SET_IRQCHIP"));
  }
  kvm_clock_data guest_clock{};
  guest_clock.clock = state.clock.clock + static_cast<uint64_t>(forward_ns);
  HOB_CHECK(vm_->set(KVM_SET_CLOCK, guest_clock, "KVM_SET_CLOCK"));
  HOB_CHECK(serial_->restore(state.serial));
  HOB_CHECK(keyboard_->restore(state.keyboard));
  for (size_t i = 0; i < devices_.size(); ++i) {
    const DeviceState& device = state.devices[i];
    if (device.type != devices_[i]->type())
      return fail(Code::kCorrupt, "the state of a device of type {} for one of type {}",
                  device.type, devices_[i]->type());
    HOB_CHECK(devices_[i]->restore(device.device));
    HOB_CHECK(transports_[i]->restore(device.transport));
    transports_[i]->pause();
  }
  HOB_CHECK(write_generation_id());
  generation_interrupt_->signal();
  has_run_ = true;
  return {};
}

}  // namespace hob::microvm
