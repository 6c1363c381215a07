#include "cli/kvm_probe.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>

#include "base/file.h"

namespace hob::cli {
namespace {

constexpr int kProbeMs = 1000;
constexpr int kExitsMax = 16;
constexpr size_t kPage = 4096;
constexpr uint16_t kPort = 0x2f1;
constexpr uint8_t kWanted = 0x5a;

// mov dx, 0x2f1; mov al, 0x2d; add al, al; out dx, al; hlt: real mode, computes 0x5a and says it.
constexpr uint8_t kCode[] = {0xba, 0xf1, 0x02, 0xb0, 0x2d, 0x00, 0xc0, 0xee, 0xf4};

// What the child says: a line, "ok" first when the guest answered right.
[[noreturn]] void say(int to, const char* text) {
  if (write(to, text, strlen(text)) < 0) _exit(2);
  _exit(0);
}

[[noreturn]] void run_guest(int to) {
  const int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
  if (kvm < 0) say(to, errno == ENOENT ? "there is no /dev/kvm" : "/dev/kvm cannot be opened");
  if (ioctl(kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
    say(to, "/dev/kvm speaks another version");
  const int machine = ioctl(kvm, KVM_CREATE_VM, 0);
  if (machine < 0) say(to, "a virtual machine cannot be made");
  void* memory = mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) say(to, "no memory");
  memcpy(memory, kCode, sizeof kCode);
  kvm_userspace_memory_region region{};
  region.guest_phys_addr = 0x1000;
  region.memory_size = kPage;
  region.userspace_addr = reinterpret_cast<uint64_t>(memory);
  if (ioctl(machine, KVM_SET_USER_MEMORY_REGION, &region) < 0) say(to, "the guest gets no memory");
  const int cpu = ioctl(machine, KVM_CREATE_VCPU, 0);
  if (cpu < 0) say(to, "the guest gets no CPU");
  const int run_bytes = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
  if (run_bytes < static_cast<int>(sizeof(kvm_run))) say(to, "the guest's CPU has no state");
  auto* run = static_cast<kvm_run*>(
      mmap(nullptr, static_cast<size_t>(run_bytes), PROT_READ | PROT_WRITE, MAP_SHARED, cpu, 0));
  if (run == MAP_FAILED) say(to, "the guest's CPU has no state");
  kvm_sregs special{};
  if (ioctl(cpu, KVM_GET_SREGS, &special) < 0) say(to, "the guest's registers cannot be read");
  special.cs.base = 0;
  special.cs.selector = 0;
  kvm_regs registers{};
  registers.rip = 0x1000;
  registers.rflags = 2;
  if (ioctl(cpu, KVM_SET_SREGS, &special) < 0 || ioctl(cpu, KVM_SET_REGS, &registers) < 0) {
    say(to, "the guest's registers cannot be set");
  }
  bool answered = false;
  for (int exits = 0; exits < kExitsMax; ++exits) {
    if (ioctl(cpu, KVM_RUN, 0) < 0) say(to, "running guest code fails");
    if (run->exit_reason == KVM_EXIT_IO && run->io.port == kPort) {
      const auto* data = reinterpret_cast<const uint8_t*>(run) + run->io.data_offset;
      if (*data != kWanted) say(to, "guest code computes wrongly");
      answered = true;
    } else if (run->exit_reason == KVM_EXIT_HLT) {
      if (!answered) say(to, "guest code ends before it answers");
      say(to, "ok");
    } else {
      say(to, "guest code does not run as on a CPU");
    }
  }
  say(to, "guest code does not end");
}

}  // namespace

Result<std::string> probe_kvm() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return fail_errno(errno, "making a pipe");
  const Fd reading(ends[0]);
  Fd writing(ends[1]);
  const pid_t pid = fork();
  if (pid < 0) return fail_errno(errno, "forking");
  if (pid == 0) run_guest(writing.get());
  writing.reset();
  pollfd wait{.fd = reading.get(), .events = POLLIN, .revents = 0};
  const int ready = poll(&wait, 1, kProbeMs);
  char text[128] = {};
  const ssize_t got = ready == 1 ? read(reading.get(), text, sizeof text - 1) : 0;
  kill(pid, SIGKILL);
  waitpid(pid, nullptr, 0);
  if (got <= 0) return fail(Code::kTimeout, "guest code does not answer within a second");
  if (strcmp(text, "ok") != 0) return fail(Code::kUnavailable, "{}", text);
  // It runs real mode by interpreting it; an unmodified Linux is interpreted as well, and fails.
  if (access("/sys/module/kvm_pvm", F_OK) == 0) {
    return fail(Code::kUnavailable,
                "the module behind /dev/kvm is kvm_pvm, which runs only guests made for it");
  }
  return std::string("guest code runs");
}

}  // namespace hob::cli
