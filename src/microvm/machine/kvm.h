// Linux's KVM, each call an Error that says what was tried. Mechanism only: what to put in is
// decided elsewhere.
//
// KvmVcpu's calls come from the thread that runs it. Everything else from any thread.
#pragma once

#include <linux/kvm.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "microvm/devices/event.h"

namespace hob::microvm {

inline constexpr size_t kCpuidEntriesMax = 256;
inline constexpr size_t kMsrsMax = 1024;

class Kvm {
 public:
  // kUnavailable: no /dev/kvm, or not ours to use; kInvalid: another version of its interface.
  static Result<Kvm> open();

  int fd() const { return fd_.get(); }
  int extension(unsigned long capability) const;  // KVM_CHECK_EXTENSION: 0 means no
  size_t run_bytes() const { return run_bytes_; }
  Result<std::vector<kvm_cpuid_entry2>> supported_cpuid() const;
  // Of the registers that it can keep for a guest.
  Result<std::vector<uint32_t>> msr_indices() const;
  size_t xsave_bytes() const;  // of one vCPU's FPU and vector registers

 private:
  Fd fd_;
  size_t run_bytes_ = 0;
};

class KvmVcpu {
 public:
  KvmVcpu(Fd fd, kvm_run* run, size_t run_bytes)
      : fd_(std::move(fd)), run_(run), run_bytes_(run_bytes) {}
  KvmVcpu(KvmVcpu&& other) noexcept;
  KvmVcpu& operator=(KvmVcpu&&) = delete;
  ~KvmVcpu();

  int fd() const { return fd_.get(); }
  kvm_run& run() { return *run_; }
  // KVM_RUN's errno; 0: it stopped for run().exit_reason.
  int enter();

  // ioctl by name: `get` fills `into`, `set` gives.
  template <class T>
  Result<T> get(unsigned long request, const char* name) const {
    T value{};
    HOB_CHECK(call(request, &value, name));
    return value;
  }
  template <class T>
  Result<void> set(unsigned long request, const T& value, const char* name) {
    return call(request, const_cast<T*>(&value), name);
  }
  Result<void> set_cpuid(std::span<const kvm_cpuid_entry2> entries);
  Result<std::vector<kvm_cpuid_entry2>> cpuid() const;
  // Of those of `indices` that this CPU has.
  Result<std::vector<kvm_msr_entry>> msrs(std::span<const uint32_t> indices) const;
  uint32_t tsc_khz() const;  // 0: not known
  Result<void> set_tsc_khz(uint32_t khz);
  // The guest shall not take the time in which it did not run for a CPU that hung. Nothing where
  // its clock is not KVM's.
  void tell_paused();
  Result<std::string> xsave(size_t bytes) const;
  // `state` may have another size than the host's; what is not in it is zero.
  Result<void> set_xsave(std::string_view state, size_t bytes);
  // How many of them were taken; fewer where KVM does not know one.
  Result<size_t> set_msrs(std::span<const kvm_msr_entry> entries);

 private:
  Result<void> call(unsigned long request, void* argument, const char* name) const;
  Fd fd_;
  kvm_run* run_;
  size_t run_bytes_;
};

// A range of the guest's addresses that is memory of ours; `slot`: each its own.
struct MemorySlot {
  uint32_t slot = 0;
  uint64_t guest_base = 0;
  uint64_t bytes = 0;
  void* host = nullptr;
  bool log_dirty = false;
  bool read_only = false;  // the guest's writes come as MMIO
};

class KvmVm final : public EventWiring {
 public:
  static Result<KvmVm> create(const Kvm& kvm);

  int fd() const { return fd_.get(); }
  Result<KvmVcpu> create_vcpu(const Kvm& kvm, uint32_t id);
  Result<void> set_memory(const MemorySlot& memory);
  // In the kernel: IOAPIC, PIC, LAPICs.
  Result<void> create_irqchip();
  Result<void> notify_on_write(uint64_t address, uint32_t bytes, uint32_t value,
                               int event) override;
  Result<void> raise_by(int event, uint32_t gsi) override;
  // The pages that the guest wrote since the last call, bit i of word w: page 64 w + i of the slot.
  Result<std::vector<uint64_t>> take_dirty(uint32_t slot, uint64_t bytes);

  template <class T>
  Result<void> get(unsigned long request, T& value, const char* name) const {
    return call(request, &value, name);
  }
  template <class T>
  Result<void> set(unsigned long request, const T& value, const char* name) {
    return call(request, const_cast<T*>(&value), name);
  }

 private:
  explicit KvmVm(Fd fd) : fd_(std::move(fd)) {}
  Result<void> call(unsigned long request, void* argument, const char* name) const;
  Fd fd_;
};

}  // namespace hob::microvm
