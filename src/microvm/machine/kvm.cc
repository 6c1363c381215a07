#include "microvm/machine/kvm.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/assert.h"
#include "microvm/layout.h"
#include "microvm/memory/guest_memory.h"

namespace hob::microvm {
namespace {

constexpr int kInterfaceVersion = 12;  // the only one there has been since Linux 2.6.22

int ioctl_retrying(int fd, unsigned long request, void* argument) {
  int answer = 0;
  do {
    answer = ioctl(fd, request, argument);
  } while (answer < 0 && errno == EINTR);
  return answer;
}

// Linux's structs that end in an array have another size in C++ than in C (its macro for such
// arrays puts an empty struct in front, which takes a byte here), and with it the requests another
// number: so these are their heads, spelt out.
struct CpuidHead {
  uint32_t nent = 0;
  uint32_t padding = 0;
};
struct MsrsHead {
  uint32_t nmsrs = 0;
  uint32_t padding = 0;
};
constexpr unsigned long kGetSupportedCpuid = _IOWR(KVMIO, 0x05, CpuidHead);
constexpr unsigned long kSetCpuid2 = _IOW(KVMIO, 0x90, CpuidHead);
struct MsrListHead {
  uint32_t nmsrs = 0;
};
struct XsaveHead {
  uint32_t region[1024] = {};
};
constexpr unsigned long kGetMsrIndexList = _IOWR(KVMIO, 0x02, MsrListHead);
constexpr unsigned long kGetMsrs = _IOWR(KVMIO, 0x88, MsrsHead);
constexpr unsigned long kGetCpuid2 = _IOWR(KVMIO, 0x91, CpuidHead);
constexpr unsigned long kGetXsave = _IOR(KVMIO, 0xa4, XsaveHead);
constexpr unsigned long kSetXsave = _IOW(KVMIO, 0xa5, XsaveHead);
constexpr unsigned long kGetXsave2 = _IOR(KVMIO, 0xcf, XsaveHead);
constexpr unsigned long kSetMsrs = _IOW(KVMIO, 0x89, MsrsHead);

// A struct that ends in an array whose length the caller chooses, as KVM likes them. Raw memory, so
// that what the kernel and we write through either type is seen through the other.
template <class Header, class Entry>
class WithEntries {
 public:
  explicit WithEntries(size_t count)
      : memory_(std::calloc(1, sizeof(Header) + count * sizeof(Entry)), &std::free) {
    HOB_ASSERT(memory_ != nullptr);
  }
  Header* header() { return static_cast<Header*>(memory_.get()); }
  Entry* entries() {
    return reinterpret_cast<Entry*>(static_cast<std::byte*>(memory_.get()) + sizeof(Header));
  }

 private:
  std::unique_ptr<void, void (*)(void*)> memory_;
};

}  // namespace

Result<Kvm> Kvm::open() {
  // It makes machines, and then interprets any kernel but one of its own kind, for ever.
  if (access("/sys/module/kvm_pvm", F_OK) == 0)
    return fail(
        Code::kUnavailable,
        "/dev/kvm belongs to kvm_pvm, which runs paravirtual kernels of its own kind alone: "
        "hardware virtualization is needed (kvm_intel, kvm_amd)");
  Kvm kvm;
  kvm.fd_ = Fd(::open("/dev/kvm", O_RDWR | O_CLOEXEC));
  if (!kvm.fd_) return fail_errno(errno, "opening /dev/kvm");
  const int version = ioctl(kvm.fd(), KVM_GET_API_VERSION, 0);
  if (version != kInterfaceVersion)
    return fail(Code::kInvalid, "/dev/kvm speaks version {}, this program {}", version,
                kInterfaceVersion);
  const int run_bytes = ioctl(kvm.fd(), KVM_GET_VCPU_MMAP_SIZE, 0);
  if (run_bytes < static_cast<int>(sizeof(kvm_run)))
    return fail_errno(errno, "KVM_GET_VCPU_MMAP_SIZE");
  kvm.run_bytes_ = static_cast<size_t>(run_bytes);
  return kvm;
}

int Kvm::extension(unsigned long capability) const {
  const int answer = ioctl(fd(), KVM_CHECK_EXTENSION, capability);
  return answer < 0 ? 0 : answer;
}

Result<std::vector<kvm_cpuid_entry2>> Kvm::supported_cpuid() const {
  WithEntries<CpuidHead, kvm_cpuid_entry2> cpuid(kCpuidEntriesMax);
  cpuid.header()->nent = kCpuidEntriesMax;
  if (ioctl_retrying(fd(), kGetSupportedCpuid, cpuid.header()) < 0)
    return fail_errno(errno, "KVM_GET_SUPPORTED_CPUID");
  return std::vector<kvm_cpuid_entry2>(cpuid.entries(), cpuid.entries() + cpuid.header()->nent);
}

Result<std::vector<uint32_t>> Kvm::msr_indices() const {
  WithEntries<MsrListHead, uint32_t> list(kMsrsMax);
  list.header()->nmsrs = kMsrsMax;
  if (ioctl_retrying(fd(), kGetMsrIndexList, list.header()) < 0)
    return fail_errno(errno, "KVM_GET_MSR_INDEX_LIST");
  return std::vector<uint32_t>(list.entries(), list.entries() + list.header()->nmsrs);
}

size_t Kvm::xsave_bytes() const {
  return std::max(sizeof(XsaveHead), static_cast<size_t>(extension(KVM_CAP_XSAVE2)));
}

KvmVcpu::KvmVcpu(KvmVcpu&& other) noexcept
    : fd_(std::move(other.fd_)),
      run_(std::exchange(other.run_, nullptr)),
      run_bytes_(other.run_bytes_) {}

KvmVcpu::~KvmVcpu() {
  if (run_ != nullptr) munmap(run_, run_bytes_);
}

int KvmVcpu::enter() { return ioctl(fd_.get(), KVM_RUN, 0) < 0 ? errno : 0; }

Result<void> KvmVcpu::call(unsigned long request, void* argument, const char* name) const {
  if (ioctl_retrying(fd_.get(), request, argument) < 0) return fail_errno(errno, name);
  return {};
}

Result<void> KvmVcpu::set_cpuid(std::span<const kvm_cpuid_entry2> entries) {
  WithEntries<CpuidHead, kvm_cpuid_entry2> cpuid(entries.size());
  cpuid.header()->nent = static_cast<uint32_t>(entries.size());
  std::memcpy(cpuid.entries(), entries.data(), entries.size_bytes());
  return call(kSetCpuid2, cpuid.header(), "KVM_SET_CPUID2");
}

Result<std::vector<kvm_cpuid_entry2>> KvmVcpu::cpuid() const {
  WithEntries<CpuidHead, kvm_cpuid_entry2> cpuid(kCpuidEntriesMax);
  cpuid.header()->nent = kCpuidEntriesMax;
  HOB_CHECK(call(kGetCpuid2, cpuid.header(), "KVM_GET_CPUID2"));
  return std::vector<kvm_cpuid_entry2>(cpuid.entries(), cpuid.entries() + cpuid.header()->nent);
}

Result<std::vector<kvm_msr_entry>> KvmVcpu::msrs(std::span<const uint32_t> indices) const {
  std::vector<kvm_msr_entry> found;
  while (!indices.empty()) {
    WithEntries<MsrsHead, kvm_msr_entry> msrs(indices.size());
    msrs.header()->nmsrs = static_cast<uint32_t>(indices.size());
    for (size_t i = 0; i < indices.size(); ++i) msrs.entries()[i].index = indices[i];
    const int given = ioctl_retrying(fd_.get(), kGetMsrs, msrs.header());
    if (given < 0) return fail_errno(errno, "KVM_GET_MSRS");
    found.insert(found.end(), msrs.entries(), msrs.entries() + given);
    // It stops at one that this CPU has not got; the rest is asked for anew.
    const auto done = std::min(indices.size(), static_cast<size_t>(given) + 1);
    indices = indices.subspan(done);
  }
  return found;
}

uint32_t KvmVcpu::tsc_khz() const {
  const int khz = ioctl(fd_.get(), KVM_GET_TSC_KHZ, 0);
  return khz < 0 ? 0 : static_cast<uint32_t>(khz);
}

Result<void> KvmVcpu::set_tsc_khz(uint32_t khz) {
  if (ioctl(fd_.get(), KVM_SET_TSC_KHZ, static_cast<unsigned long>(khz)) < 0)
    return fail_errno(errno, "KVM_SET_TSC_KHZ");
  return {};
}

void KvmVcpu::tell_paused() { ioctl(fd_.get(), KVM_KVMCLOCK_CTRL, 0); }

Result<std::string> KvmVcpu::xsave(size_t bytes) const {
  std::string state(bytes, '\0');
  HOB_CHECK(
      call(bytes > sizeof(XsaveHead) ? kGetXsave2 : kGetXsave, state.data(), "KVM_GET_XSAVE"));
  return state;
}

Result<void> KvmVcpu::set_xsave(std::string_view state, size_t bytes) {
  std::string whole(state.substr(0, bytes));
  whole.resize(bytes);
  return call(kSetXsave, whole.data(), "KVM_SET_XSAVE");
}

Result<size_t> KvmVcpu::set_msrs(std::span<const kvm_msr_entry> entries) {
  WithEntries<MsrsHead, kvm_msr_entry> msrs(entries.size());
  msrs.header()->nmsrs = static_cast<uint32_t>(entries.size());
  std::memcpy(msrs.entries(), entries.data(), entries.size_bytes());
  const int taken = ioctl_retrying(fd_.get(), kSetMsrs, msrs.header());
  if (taken < 0) return fail_errno(errno, "KVM_SET_MSRS");
  return static_cast<size_t>(taken);
}

Result<KvmVm> KvmVm::create(const Kvm& kvm) {
  int fd = -1;
  do {
    fd = ioctl(kvm.fd(), KVM_CREATE_VM, 0);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) return fail_errno(errno, "KVM_CREATE_VM");
  KvmVm vm{Fd(fd)};
  if (ioctl(fd, KVM_SET_TSS_ADDR, layout::kKvmTss) < 0)
    return fail_errno(errno, "KVM_SET_TSS_ADDR");
  uint64_t identity_map = layout::kKvmIdentityMap;
  HOB_CHECK(vm.call(KVM_SET_IDENTITY_MAP_ADDR, &identity_map, "KVM_SET_IDENTITY_MAP_ADDR"));
  return vm;
}

Result<KvmVcpu> KvmVm::create_vcpu(const Kvm& kvm, uint32_t id) {
  Fd vcpu(ioctl(fd(), KVM_CREATE_VCPU, id));
  if (!vcpu) return fail_errno(errno, fmt::format("KVM_CREATE_VCPU {}", id));
  void* run = mmap(nullptr, kvm.run_bytes(), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu.get(), 0);
  if (run == MAP_FAILED) return fail_errno(errno, "mapping a vCPU's kvm_run");
  return KvmVcpu(std::move(vcpu), static_cast<kvm_run*>(run), kvm.run_bytes());
}

Result<void> KvmVm::call(unsigned long request, void* argument, const char* name) const {
  if (ioctl_retrying(fd(), request, argument) < 0) return fail_errno(errno, name);
  return {};
}

Result<void> KvmVm::set_memory(const MemorySlot& memory) {
  kvm_userspace_memory_region region{};
  region.slot = memory.slot;
  region.flags =
      (memory.log_dirty ? KVM_MEM_LOG_DIRTY_PAGES : 0) | (memory.read_only ? KVM_MEM_READONLY : 0);
  region.guest_phys_addr = memory.guest_base;
  region.memory_size = memory.bytes;
  region.userspace_addr = reinterpret_cast<uint64_t>(memory.host);
  return call(KVM_SET_USER_MEMORY_REGION, &region, "KVM_SET_USER_MEMORY_REGION");
}

Result<void> KvmVm::create_irqchip() {
  return call(KVM_CREATE_IRQCHIP, nullptr, "KVM_CREATE_IRQCHIP");
}

Result<void> KvmVm::notify_on_write(uint64_t address, uint32_t bytes, uint32_t value, int event) {
  kvm_ioeventfd request{};
  request.addr = address;
  request.len = bytes;
  request.fd = event;
  if (bytes != 0) {
    request.datamatch = value;
    request.flags = KVM_IOEVENTFD_FLAG_DATAMATCH;
  }
  return call(KVM_IOEVENTFD, &request, "KVM_IOEVENTFD");
}

Result<void> KvmVm::raise_by(int event, uint32_t gsi) {
  kvm_irqfd request{};
  request.fd = static_cast<uint32_t>(event);
  request.gsi = gsi;
  return call(KVM_IRQFD, &request, "KVM_IRQFD");
}

Result<std::vector<uint64_t>> KvmVm::take_dirty(uint32_t slot, uint64_t bytes) {
  std::vector<uint64_t> pages((bytes / kPageBytes + 63) / 64);
  kvm_dirty_log log{};
  log.slot = slot;
  log.dirty_bitmap = pages.data();
  HOB_CHECK(call(KVM_GET_DIRTY_LOG, &log, "KVM_GET_DIRTY_LOG"));
  return pages;
}

}  // namespace hob::microvm
