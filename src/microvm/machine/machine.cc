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
                         (options.entropy ? 1 : 0);
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
  HOB_TRY(Event generation_interrupt, Event::create());
  self.generation_interrupt_ = std::make_unique<Event>(std::move(generation_interrupt));
  HOB_TRY(const MmioPlace next, mmio_place(self.transports_.size()));
  HOB_CHECK(self.vm_->raise_by(self.generation_interrupt_->fd(), next.gsi));
  return machine;
}

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

Result<void> Machine::attach_balloon(const BalloonOptions& options) {
  HOB_TRY(std::unique_ptr<Balloon> balloon, Balloon::create(options));
  Balloon* device = balloon.get();
  HOB_TRY(VirtioMmio * transport, attach(std::move(balloon)));
  balloon_ = {.id = "balloon", .device = device, .transport = transport};
  return {};
}

HeldBalloon Machine::hold_balloon() {
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

// Behind all memory, one after the other, where a saved machine's were too.
Result<void> Machine::attach_pmems(std::vector<PmemFile> pmems) {
  const GuestMemory::Region& last = memory_.regions().back();
  GuestAddress next = std::max(layout::kFourGib, last.base + last.bytes);
  next = (next + layout::kPmemPlacement - 1) / layout::kPmemPlacement * layout::kPmemPlacement;
  for (PmemFile& file : pmems) {
    HOB_TRY(std::unique_ptr<Pmem> pmem,
            Pmem::create(std::move(file.file),
                         {.id = file.id, .read_only = file.read_only, .limit = file.limit}));
    pmem->place(next);
    HOB_CHECK(vm_->set_memory({.slot = next_slot_++,
                               .guest_base = next,
                               .bytes = pmem->bytes(),
                               .host = pmem->host(),
                               .read_only = pmem->read_only()}));
    next += pmem->bytes();
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
