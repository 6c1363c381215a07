// One virtual machine: memory, vCPUs, devices and the loop they live on. Built whole and paused,
// then resumed.
//
// Everything here is called on the loop's thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "microvm/devices/bus.h"
#include "microvm/devices/console.h"
#include "microvm/devices/i8042.h"
#include "microvm/devices/serial.h"
#include "microvm/loop.h"
#include "microvm/machine/cpu_template.h"
#include "microvm/machine/kvm.h"
#include "microvm/machine/kvm_ahead.h"
#include "microvm/machine/state.h"
#include "microvm/machine/vcpu.h"
#include "microvm/memory/guest_memory.h"
#include "microvm/virtio/balloon.h"
#include "microvm/virtio/block.h"
#include "microvm/virtio/entropy.h"
#include "microvm/virtio/mem.h"
#include "microvm/virtio/mmio.h"
#include "microvm/virtio/net.h"
#include "microvm/virtio/pmem.h"
#include "microvm/virtio/vsock.h"

namespace hob::microvm {

inline constexpr uint32_t kVcpusMax = 32;
inline constexpr uint64_t kMemoryMibMax = 16ull
                                          << 20;  // 16 TiB: below what any CPU of ours can address

struct DriveFile {
  std::string id{};
  Fd file{};
  bool read_only = false;
  bool flushes = false;
  bool root = false;
  std::string partition{};  // PARTUUID of the root; empty: the whole drive
  bool asynchronous = false;
  RateLimiterOptions limit{};
};

struct InterfaceTap {
  std::string id{};
  Tap tap;
  NetOptions options{};
};

struct PmemFile {
  std::string id{};
  Fd file{};
  bool read_only = false;
  bool root = false;
  RateLimiterOptions limit{};
};

struct VsockSocket {
  uint64_t guest_cid = 0;
  Fd listener{};  // bound to `path`
  std::string path{};
};

// A device that stands still meanwhile.
template <class Device>
struct Held {
  std::unique_lock<std::mutex> lock{};
  Device* device = nullptr;
};

struct MachineOptions {
  uint32_t vcpus = 1;  // 1..kVcpusMax
  bool smt = false;
  uint64_t memory_mib = 128;  // at least 1
  GuestMemory::Pages pages = GuestMemory::Pages::kNormal;
  bool track_dirty = false;
  Fd kernel{};
  Fd initrd{};                   // none: -1
  std::string boot_arguments{};  // as given; what devices need is appended
  CpuTemplate cpu{};             // for a boot alone: a snapshot has the CPUs as they were
  std::optional<BalloonOptions> balloon{};
  std::vector<DriveFile> drives{};  // the root first
  std::vector<InterfaceTap> interfaces{};
  std::vector<PmemFile> pmems{};
  std::optional<VsockSocket> vsock{};
  std::optional<EntropyOptions> entropy{};  // none: no such device
  std::optional<HotPlugOptions> hot_plug{};
  bool filter_vcpus = false;                          // by seccomp, jail/filter.h
  int console_input = -1;                             // what is typed into COM1; -1: nothing
  int console = 1;                                    // where COM1's output goes; -1: nowhere
  std::optional<TokenBucketOptions> console_limit{};  // bytes of output
  KvmAhead* kvm = nullptr;  // what was begun already; nullptr: nothing was
};

// A device in its place.
template <class Device>
struct Attached {
  std::string id{};
  Device* device = nullptr;
  VirtioMmio* transport = nullptr;
};

template <class Counts>
struct Named {
  std::string id{};
  Counts counts{};
};

class Machine {
 public:
  // Paused, its first instruction not run. `on_end`: on the loop, when a CPU ended by itself, with
  // its reason.
  static Result<std::unique_ptr<Machine>> build(MachineOptions options, Loop& loop,
                                                std::function<void(const VcpuEnd&)> on_end);
  // A saved machine, paused where it was, with a generation id of its own. `memory`: as it was
  // then, of `options`' size. Kernel, initrd and boot arguments are not looked at. kCorrupt: the
  // state does not fit `options`.
  enum class Clock { kAsSaved, kForward };  // or on by the wall time since then
  static Result<std::unique_ptr<Machine>> restore(MachineOptions options, GuestMemory memory,
                                                  const MachineState& state, Clock clock,
                                                  Loop& loop,
                                                  std::function<void(const VcpuEnd&)> on_end);
  ~Machine();

  void resume();
  void pause();
  bool running() const { return running_; }
  // Only while paused.
  Result<MachineState> save();
  GuestMemory& memory() { return memory_; }
  // Puts the pages that the guest wrote to those in memory().dirty(). Only while paused.
  Result<void> collect_dirty();
  // False: the guest does not read its keyboard.
  bool type_ctrl_alt_del() { return keyboard_->type_ctrl_alt_del(); }

  // There must be one.
  Held<Balloon> hold_balloon();
  Held<Mem> hold_hot_plug();
  // Changes the limits that are given, and returns all of them. kNotFound: there is no such
  // interface.
  Result<Net::Limits> limit_interface(std::string_view id, const Net::Limits& limits);

  // Gives the drive another file, and changes its limits, as far as given; returns all limits.
  // kNotFound: there is no such drive.
  Result<RateLimiterOptions> change_drive(std::string_view id, std::optional<Fd> file,
                                          const RateLimiterOptions& limit);

  // Likewise.
  Result<RateLimiterOptions> limit_pmem(std::string_view id, const RateLimiterOptions& limit);

  // What its parts have done so far.
  struct Counts {
    std::vector<Named<Block::Counts>> drives{};
    std::vector<Named<Net::Counts>> interfaces{};
    std::vector<Named<Pmem::Counts>> pmems{};
    Vsock::Counts vsock{};
    Balloon::Counts balloon{};
    Entropy::Counts entropy{};
    Mem::Counts hot_plug{};
    Vcpu::Exits exits{};  // of all vCPUs
    Serial::Counts serial{};
    I8042::Counts keyboard{};
    uint64_t interrupts = 0;
    uint64_t configuration_changes = 0;
  };
  Counts counts() const;

 private:
  Machine(Loop& loop, GuestMemory memory) : loop_(loop), memory_(std::move(memory)) {}
  static Result<std::unique_ptr<Machine>> assemble(MachineOptions& options, GuestMemory memory,
                                                   Loop& loop,
                                                   std::function<void(const VcpuEnd&)> on_end);
  Result<void> attach_consoles(const MachineOptions& options);
  Result<VirtioMmio*> attach(std::unique_ptr<VirtioDevice> device);
  Result<void> attach_balloon(const BalloonOptions& options);
  Result<void> attach_drives(std::vector<DriveFile> drives);
  Result<void> attach_interfaces(std::vector<InterfaceTap> interfaces);
  Result<void> attach_pmems(std::vector<PmemFile> pmems);
  Result<void> attach_vsock(VsockSocket vsock);
  Result<void> attach_entropy(const EntropyOptions& options);
  Result<void> attach_hot_plug(const HotPlugOptions& options, GuestMemory::Pages pages);
  bool change_hot_range(Mem::Change change, GuestAddress start, uint64_t bytes);
  // `prepare` gives a vCPU its first state.
  Result<void> start_vcpus(uint32_t count,
                           const std::function<Result<void>(uint32_t, KvmVcpu&)>& prepare);
  Result<void> restore_state(const MachineState& state, Clock clock);
  // For this machine alone.
  Result<void> write_generation_id();
  void ended(const VcpuEnd& end);

  Loop& loop_;
  GuestMemory memory_;
  bool filter_vcpus_ = false;
  std::unique_ptr<Kvm> kvm_;
  std::unique_ptr<KvmVm> vm_;
  uint32_t next_slot_ = 0;       // of KVM's for memory
  GuestAddress next_base_ = 0;   // of what is mapped behind the memory
  uint32_t first_hot_slot_ = 0;  // each hot_slot_bytes_ of the hot range has one, in turn
  uint64_t hot_slot_bytes_ = 0;
  std::vector<bool> hot_slots_;  // KVM knows of
  Bus ports_;
  Bus mmio_;
  std::unique_ptr<Event> serial_interrupt_;
  std::unique_ptr<Event> keyboard_interrupt_;
  std::unique_ptr<Serial> serial_;
  std::unique_ptr<Console> console_;
  std::unique_ptr<I8042> keyboard_;
  std::vector<std::unique_ptr<VirtioDevice>> devices_;
  std::vector<std::unique_ptr<VirtioMmio>> transports_;
  Attached<Balloon> balloon_{};  // no device: none
  Vsock* vsock_ = nullptr;       // likewise
  std::vector<Attached<Block>> drives_;
  std::vector<Attached<Net>> interfaces_;
  std::vector<Attached<Pmem>> pmems_;
  std::optional<Attached<Entropy>> entropy_;
  Attached<Mem> hot_plug_{};  // no device: none
  std::unique_ptr<Event> generation_interrupt_;
  std::unique_ptr<Event> end_event_;
  std::mutex end_mutex_;
  std::optional<VcpuEnd> end_;  // the first
  std::function<void(const VcpuEnd&)> on_end_;
  bool running_ = false;
  bool has_run_ = false;                      // before: what it does next is not its beginning
  std::vector<std::unique_ptr<Vcpu>> vcpus_;  // last: they use all of the above
};

// Bases and interrupts are given in turn: the i-th device in the virtio-mmio window.
struct MmioPlace {
  uint32_t base = 0;
  uint32_t gsi = 0;
};
Result<MmioPlace> mmio_place(size_t index);

// The guest's memory of so many MiB as the address space has room for it, without what it is in the
// host's.
std::vector<GuestMemory::Region> memory_ranges(uint64_t bytes);

// `given` with what the devices need behind it. kInvalid: too long, or not printable text.
Result<std::string> command_line(const MachineOptions& options);

}  // namespace hob::microvm
