#include "microvm/machine/machine.h"

#include <fmt/core.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/assert.h"
#include "microvm/boot/acpi.h"
#include "microvm/boot/boot_records.h"
#include "microvm/boot/kernel_image.h"
#include "microvm/jail/filter.h"
#include "microvm/layout.h"
#include "microvm/machine/cpuid.h"

namespace hob::microvm {
namespace {

// Model-specific registers at the start, as firmware would leave them.
constexpr uint32_t kMsrMiscEnable = 0x1a0;
constexpr uint64_t kFastStrings = 1;
constexpr uint32_t kMsrMtrrDefaultType = 0x2ff;
constexpr uint64_t kMtrrWriteBack = 1 << 11 | 6;
constexpr std::array<uint32_t, 9> kMsrsZero = {
    0x174, 0x175, 0x176, 0xc0000081, 0xc0000082, 0xc0000083, 0xc0000084, 0xc0000102, 0x10};
// The local APIC's LINT0 and LINT1: external interrupts, and NMI.
constexpr size_t kLvt0 = 0x350;
constexpr size_t kLvt1 = 0x360;
constexpr uint32_t kDeliveryModeBits = 0x700;
constexpr uint32_t kDeliverExternal = 0x700;
constexpr uint32_t kDeliverNmi = 0x400;

void set_lvt(kvm_lapic_state& lapic, size_t at, uint32_t mode) {
  uint32_t value = 0;
  std::memcpy(&value, lapic.regs + at, sizeof value);
  value = (value & ~kDeliveryModeBits) | mode;
  std::memcpy(lapic.regs + at, &value, sizeof value);
}

Result<void> prepare_vcpu(KvmVcpu& vcpu, const Kernel& kernel,
                          std::span<const kvm_cpuid_entry2> cpuid) {
  HOB_CHECK(vcpu.set_cpuid(cpuid));
  std::vector<kvm_msr_entry> msrs;
  for (const uint32_t index : kMsrsZero) msrs.push_back({.index = index, .reserved = 0, .data = 0});
  msrs.push_back({.index = kMsrMiscEnable, .reserved = 0, .data = kFastStrings});
  msrs.push_back({.index = kMsrMtrrDefaultType, .reserved = 0, .data = kMtrrWriteBack});
  HOB_TRY(const size_t taken, vcpu.set_msrs(msrs));
  if (taken != msrs.size())
    return fail(Code::kUnavailable, "KVM does not take MSR {:#x}", msrs[taken].index);
  HOB_TRY(const kvm_sregs initial, vcpu.get<kvm_sregs>(KVM_GET_SREGS, "KVM_GET_SREGS"));
  // All CPUs get them; those after the first wait for its start-up message anyway.
  const BootRegisters boot = boot_registers(kernel, initial);
  HOB_CHECK(vcpu.set(KVM_SET_FPU, boot.fpu, "KVM_SET_FPU"));
  HOB_CHECK(vcpu.set(KVM_SET_SREGS, boot.sregs, "KVM_SET_SREGS"));
  HOB_CHECK(vcpu.set(KVM_SET_REGS, boot.regs, "KVM_SET_REGS"));
  HOB_TRY(kvm_lapic_state lapic, vcpu.get<kvm_lapic_state>(KVM_GET_LAPIC, "KVM_GET_LAPIC"));
  set_lvt(lapic, kLvt0, kDeliverExternal);
  set_lvt(lapic, kLvt1, kDeliverNmi);
  return vcpu.set(KVM_SET_LAPIC, lapic, "KVM_SET_LAPIC");
}

Result<void> change_msrs(KvmVcpu& vcpu, std::span<const MsrBits> changes) {
  for (const MsrBits& change : changes) {
    HOB_TRY(std::vector<kvm_msr_entry> msr, vcpu.msrs(std::span(&change.index, 1)));
    if (!msr.empty()) msr[0].data = change.bits.apply(msr[0].data);
    HOB_TRY(const size_t taken, vcpu.set_msrs(msr));
    if (taken != 1)
      return fail(Code::kInvalid, "the CPU configuration changes MSR {:#x}, which KVM does not let",
                  change.index);
  }
  return {};
}

struct BootFiles {
  Kernel kernel;
  std::optional<Initrd> initrd{};
};

Result<BootFiles> load_files(const MachineOptions& options, GuestMemory& memory) {
  BootFiles files;
  HOB_TRY(files.kernel, context(load_kernel(options.kernel.get(), memory), "the kernel"));
  if (options.initrd) {
    HOB_TRY(files.initrd,
            context(load_initrd(options.initrd.get(), memory, files.kernel.end), "the initrd"));
  }
  return files;
}

}  // namespace

std::vector<GuestMemory::Region> memory_ranges(uint64_t bytes) {
  std::vector<GuestMemory::Region> ranges = {
      {.base = 0, .bytes = std::min(bytes, layout::kMmioHole)}};
  if (bytes > layout::kMmioHole)
    ranges.push_back({.base = layout::kFourGib, .bytes = bytes - layout::kMmioHole});
  return ranges;
}

Result<MmioPlace> mmio_place(size_t index) {
  // The last interrupt of all is the generation id's, at least.
  if (index > layout::kLastDeviceGsi - layout::kFirstDeviceGsi)
    return fail(Code::kLimit, "more than {} devices",
                layout::kLastDeviceGsi - layout::kFirstDeviceGsi);
  return MmioPlace{
      .base = static_cast<uint32_t>(layout::kVirtioMmio + index * layout::kVirtioMmioBytes),
      .gsi = static_cast<uint32_t>(layout::kFirstDeviceGsi + index)};
}

Result<std::string> command_line(const MachineOptions& options) {
  // What comes after "--" is init's: the kernel's own arguments end there.
  constexpr std::string_view kInits = " -- ";
  const size_t inits = (options.boot_arguments + ' ').find(kInits);
  std::string line = options.boot_arguments.substr(0, inits);
  const auto add = [&line](std::string_view argument) {
    if (!line.empty()) line += ' ';
    line += argument;
  };
  add("pci=off");
  for (const DriveFile& drive : options.drives) {
    if (!drive.root) continue;
    add(drive.partition.empty() ? "root=/dev/vda"
                                : fmt::format("root=PARTUUID={}", drive.partition));
    add(drive.read_only ? "ro" : "rw");
  }
  for (size_t i = 0; i < options.pmems.size(); ++i) {
    if (!options.pmems[i].root) continue;
    add(fmt::format("root=/dev/pmem{}", i));
    add(options.pmems[i].read_only ? "ro" : "rw");
  }
  // For kernels without ACPI; others find the same in its tables.
  const size_t devices = options.drives.size() + options.interfaces.size() + options.pmems.size() +
                         (options.balloon ? 1 : 0) + (options.vsock ? 1 : 0) +
                         (options.entropy ? 1 : 0) + (options.hot_plug ? 1 : 0);
  for (size_t i = 0; i < devices; ++i) {
    HOB_TRY(const MmioPlace place, mmio_place(i));
    add(fmt::format("virtio_mmio.device=4K@{:#x}:{}", place.base, place.gsi));
  }
  if (inits != std::string::npos) line += options.boot_arguments.substr(inits);
  if (line.size() >= layout::kCommandLineBytes)
    return fail(Code::kInvalid, "the boot arguments are longer than {} bytes",
                layout::kCommandLineBytes - 1);
  if (std::ranges::any_of(line, [](char c) { return c < 0x20 || c > 0x7e; }))
    return fail(Code::kInvalid, "the boot arguments have characters other than printable ASCII");
  return line;
}

Result<std::unique_ptr<Machine>> Machine::assemble(MachineOptions& options, GuestMemory memory,
                                                   Loop& loop,
                                                   std::function<void(const VcpuEnd&)> on_end) {
  HOB_ASSERT(options.vcpus >= 1 && options.vcpus <= kVcpusMax);
  std::unique_ptr<Machine> machine(new Machine(loop, std::move(memory)));
  Machine& self = *machine;
  self.on_end_ = std::move(on_end);
  self.filter_vcpus_ = options.filter_vcpus;
  HOB_TRY(EmptyMachine made, options.kvm != nullptr ? options.kvm->take() : make_empty_machine());
  self.kvm_ = std::make_unique<Kvm>(std::move(made.kvm));
  self.vm_ = std::make_unique<KvmVm>(std::move(made.vm));
  HOB_CHECK(self.vm_->create_irqchip());
  for (const GuestMemory::Region& region : self.memory_.regions())
    HOB_CHECK(self.vm_->set_memory({.slot = self.next_slot_++,
                                    .guest_base = region.base,
                                    .bytes = region.bytes,
                                    .host = region.host,
                                    .log_dirty = options.track_dirty}));
  HOB_CHECK(self.attach_consoles(options));
  HOB_TRY(Event end_event, Event::create());
  self.end_event_ = std::make_unique<Event>(std::move(end_event));
  HOB_CHECK(loop.watch(self.end_event_->fd(), EPOLLIN, [&self](uint32_t) {
    self.end_event_->take();
    std::optional<VcpuEnd> end;
    {
      const std::lock_guard lock(self.end_mutex_);
      end = self.end_;
    }
    self.on_end_(*end);
  }));
  if (options.balloon) HOB_CHECK(self.attach_balloon(*options.balloon));
  HOB_CHECK(self.attach_drives(std::move(options.drives)));
  HOB_CHECK(self.attach_interfaces(std::move(options.interfaces)));
  HOB_CHECK(self.attach_pmems(std::move(options.pmems)));
  if (options.vsock) HOB_CHECK(self.attach_vsock(*std::move(options.vsock)));
  if (options.entropy) HOB_CHECK(self.attach_entropy(*options.entropy));
  if (options.hot_plug) HOB_CHECK(self.attach_hot_plug(*options.hot_plug, options.pages));
  HOB_TRY(Event generation_interrupt, Event::create());
  self.generation_interrupt_ = std::make_unique<Event>(std::move(generation_interrupt));
  HOB_TRY(const MmioPlace next, mmio_place(self.transports_.size()));
  HOB_CHECK(self.vm_->raise_by(self.generation_interrupt_->fd(), next.gsi));
  return machine;
}

Result<std::unique_ptr<Machine>> Machine::build(MachineOptions options, Loop& loop,
                                                std::function<void(const VcpuEnd&)> on_end) {
  HOB_TRY(const std::string line, command_line(options));
  HOB_TRY(GuestMemory memory, GuestMemory::create(memory_ranges(options.memory_mib << 20),
                                                  options.pages, options.track_dirty));
  // While KVM makes its part; what is wrong with that is told first, as Firecracker does.
  auto loaded = load_files(options, memory);
  HOB_TRY(std::unique_ptr<Machine> machine,
          assemble(options, std::move(memory), loop, std::move(on_end)));
  Machine& self = *machine;
  HOB_TRY(const auto files, std::move(loaded));
  const auto& [kernel, initrd] = files;
  AcpiDevices acpi{.vcpus = static_cast<int>(options.vcpus)};
  for (size_t i = 0; i < self.transports_.size(); ++i) {
    HOB_TRY(const MmioPlace place, mmio_place(i));
    acpi.virtio.push_back({.base = place.base, .gsi = place.gsi});
  }
  HOB_TRY(const MmioPlace next, mmio_place(self.transports_.size()));
  acpi.generation_gsi = next.gsi;
  HOB_CHECK(write_acpi(self.memory_, acpi));
  HOB_CHECK(self.write_generation_id());
  HOB_CHECK(write_boot_records(self.memory_, kernel, line, initrd));

  for (const uint32_t capability : options.cpu.capabilities)
    if (self.kvm_->extension(capability) == 0)
      return fail(Code::kInvalid, "the CPU configuration demands KVM's capability {}", capability);
  HOB_TRY(const std::vector<kvm_cpuid_entry2> supported, self.kvm_->supported_cpuid());
  const bool deadline = self.kvm_->extension(KVM_CAP_TSC_DEADLINE_TIMER) != 0;
  HOB_CHECK(self.start_vcpus(options.vcpus, [&](uint32_t index, KvmVcpu& vcpu) -> Result<void> {
    const CpuShape shape{
        .index = index, .vcpus = options.vcpus, .smt = options.smt, .tsc_deadline = deadline};
    std::vector<kvm_cpuid_entry2> cpuid = shape_cpuid(supported, shape);
    HOB_CHECK(apply_template(options.cpu, cpuid));
    HOB_CHECK(prepare_vcpu(vcpu, kernel, cpuid));
    return change_msrs(vcpu, options.cpu.msrs);
  }));
  return machine;
}

Result<void> Machine::start_vcpus(uint32_t count,
                                  const std::function<Result<void>(uint32_t, KvmVcpu&)>& prepare) {
  Vcpu::install_kick();
  for (uint32_t i = 0; i < count; ++i) {
    HOB_TRY(KvmVcpu kvm, vm_->create_vcpu(*kvm_, i));
    HOB_CHECK(prepare(i, kvm));
    auto vcpu = std::make_unique<Vcpu>(i, std::move(kvm), VcpuBuses{.ports = ports_, .mmio = mmio_},
                                       [this](const VcpuEnd& end) { ended(end); });
    HOB_CHECK(vcpu->start([filter = filter_vcpus_] {
      return filter ? install_filter(ThreadKind::kVcpu) : Result<void>();
    }));
    vcpus_.push_back(std::move(vcpu));
  }
  return {};
}

Machine::~Machine() {
  for (const auto& vcpu : vcpus_) vcpu->stop();
  if (end_event_) loop_.forget(end_event_->fd());
}

void Machine::ended(const VcpuEnd& end) {
  {
    const std::lock_guard lock(end_mutex_);
    if (end_) return;
    end_ = end;
  }
  end_event_->signal();
}

Machine::Counts Machine::counts() const {
  Counts counts{.serial = serial_->counts(), .keyboard = keyboard_->counts()};
  for (const auto& drive : drives_) {
    const auto held = drive.transport->hold();
    counts.drives.push_back({.id = drive.id, .counts = drive.device->counts()});
  }
  for (const auto& interface : interfaces_) {
    const auto held = interface.transport->hold();
    counts.interfaces.push_back({.id = interface.id, .counts = interface.device->counts()});
  }
  for (const auto& pmem : pmems_) {
    const auto held = pmem.transport->hold();
    counts.pmems.push_back({.id = pmem.id, .counts = pmem.device->counts()});
  }
  if (vsock_ != nullptr) counts.vsock = vsock_->counts();
  if (balloon_.device != nullptr) {
    const auto held = balloon_.transport->hold();
    counts.balloon = balloon_.device->counts();
  }
  if (entropy_) {
    const auto held = entropy_->transport->hold();
    counts.entropy = entropy_->device->counts();
  }
  if (hot_plug_.device != nullptr) {
    const auto held = hot_plug_.transport->hold();
    counts.hot_plug = hot_plug_.device->counts();
  }
  for (const auto& transport : transports_) {
    counts.interrupts += transport->interrupts();
    counts.configuration_changes += transport->configuration_changes();
  }
  for (const auto& vcpu : vcpus_) {
    const Vcpu::Exits exits = vcpu->exits();
    counts.exits.port_reads += exits.port_reads;
    counts.exits.port_writes += exits.port_writes;
    counts.exits.mmio_reads += exits.mmio_reads;
    counts.exits.mmio_writes += exits.mmio_writes;
  }
  return counts;
}

void Machine::resume() {
  if (running_) return;
  if (has_run_) {
    for (const auto& vcpu : vcpus_) vcpu->kvm().tell_paused();
  }
  has_run_ = true;
  for (const auto& transport : transports_) transport->resume();
  for (const auto& vcpu : vcpus_) vcpu->resume();
  running_ = true;
}

void Machine::pause() {
  for (const auto& vcpu : vcpus_) vcpu->pause();
  for (const auto& transport : transports_) transport->pause();
  running_ = false;
}

}  // namespace hob::microvm
