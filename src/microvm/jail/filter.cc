#include "microvm/jail/filter.h"

#include <linux/audit.h>
#include <linux/if_tun.h>
#include <linux/io_uring.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <initializer_list>
#include <span>

namespace hob::microvm {
namespace {

// One call; with a mask, only if argument `index` under it is `value`.
struct Allowed {
  uint32_t number = 0;
  uint32_t index = 0;
  uint32_t mask = 0;
  uint32_t value = 0;
};

// What every thread does: memory, locks, its own end, and to say why it ends.
constexpr Allowed kEveryThread[] = {
    {.number = SYS_futex},
    {.number = SYS_write},
    {.number = SYS_read},
    {.number = SYS_close},
    {.number = SYS_poll},
    {.number = SYS_ppoll},
    {.number = SYS_brk},
    {.number = SYS_mmap, .index = 2, .mask = PROT_EXEC, .value = 0},
    {.number = SYS_mprotect, .index = 2, .mask = PROT_EXEC, .value = 0},
    {.number = SYS_munmap},
    {.number = SYS_mremap},
    {.number = SYS_madvise},
    {.number = SYS_clock_gettime},
    {.number = SYS_gettid},
    {.number = SYS_getpid},
    {.number = SYS_tgkill},
    {.number = SYS_sched_yield},
    {.number = SYS_restart_syscall},
    {.number = SYS_rt_sigprocmask},
    {.number = SYS_rt_sigreturn},
    {.number = SYS_sigaltstack},
    {.number = SYS_exit},
    {.number = SYS_exit_group},
    // Devices that a driver starts and stops, which happens on the vCPU that writes the register.
    {.number = SYS_epoll_ctl},
    {.number = SYS_timerfd_settime},
    {.number = SYS_io_uring_enter},
};

constexpr uint32_t kAllBits = ~uint32_t{0};

constexpr Allowed kVcpuOnly[] = {
    {.number = SYS_ioctl, .index = 1, .mask = kAllBits, .value = KVM_RUN},
    // A network device's driver chooses its offloads.
    {.number = SYS_ioctl, .index = 1, .mask = kAllBits, .value = TUNSETOFFLOAD},
};

// A request's type: KVM's, a userfaultfd's. Not 'T', a tap's: it is a terminal's, too.
constexpr uint32_t kRequestType = 0xff00;

// The loop while the machine runs.
constexpr Allowed kLoop[] = {
    {.number = SYS_ioctl, .index = 1, .mask = kRequestType, .value = KVMIO << 8},
    {.number = SYS_ioctl, .index = 1, .mask = kRequestType, .value = 0xaa << 8},
    {.number = SYS_ioctl, .index = 1, .mask = kAllBits, .value = TUNSETOFFLOAD},
    // The console's terminal is put back in the end; libc looks whether it was.
    {.number = SYS_ioctl, .index = 1, .mask = kAllBits, .value = TCSETS},
    {.number = SYS_ioctl, .index = 1, .mask = kAllBits, .value = TCGETS},
    {.number = SYS_epoll_wait},
    {.number = SYS_epoll_pwait},
    {.number = SYS_eventfd2},
    {.number = SYS_timerfd_create},
    {.number = SYS_accept4},
    {.number = SYS_recvfrom},
    {.number = SYS_recvmsg},
    {.number = SYS_sendto},
    {.number = SYS_sendmsg},
    {.number = SYS_shutdown},
    {.number = SYS_socket, .index = 0, .mask = kAllBits, .value = AF_UNIX},
    {.number = SYS_connect},
    {.number = SYS_fcntl},
    {.number = SYS_openat},
    {.number = SYS_fstat},
    {.number = SYS_newfstatat},
    {.number = SYS_lseek},
    {.number = SYS_readv},
    {.number = SYS_writev},
    {.number = SYS_pread64},
    {.number = SYS_pwrite64},
    {.number = SYS_preadv},
    {.number = SYS_pwritev},
    {.number = SYS_fsync},
    {.number = SYS_fdatasync},
    {.number = SYS_ftruncate},
    {.number = SYS_fallocate},
    {.number = SYS_rename},
    {.number = SYS_unlink},
    {.number = SYS_fchmod},
    {.number = SYS_getrandom},
    // Rings are made before the machine runs, each restricted for ever to what it does; then a
    // drive may get another file.
    {.number = SYS_io_uring_register,
     .index = 1,
     .mask = kAllBits,
     .value = IORING_REGISTER_FILES_UPDATE},
};

// What a machine's start takes besides.
constexpr Allowed kStart[] = {
    {.number = SYS_clone, .index = 0, .mask = CLONE_THREAD, .value = CLONE_THREAD},
    {.number = SYS_rt_sigaction},
    {.number = SYS_access},
    {.number = SYS_rseq},
    {.number = SYS_set_robust_list},
    {.number = SYS_prctl},
    {.number = SYS_seccomp},
    {.number = SYS_userfaultfd},
    {.number = SYS_bind},
    {.number = SYS_listen},
    {.number = SYS_io_uring_setup},
    {.number = SYS_io_uring_register},
    {.number = SYS_ioctl, .index = 1, .mask = kAllBits, .value = TUNSETIFF},
    {.number = SYS_ioctl, .index = 1, .mask = kAllBits, .value = TUNSETVNETHDRSZ},
};

void add(std::vector<sock_filter>& program, std::span<const Allowed> calls) {
  const auto statement = [](uint16_t code, uint32_t k) -> sock_filter { return {code, 0, 0, k}; };
  const auto jump = [](uint16_t code, uint32_t k, uint8_t yes, uint8_t no) -> sock_filter {
    return {code, yes, no, k};
  };
  for (const Allowed& call : calls) {
    if (call.mask == 0) {
      program.push_back(jump(BPF_JMP | BPF_JEQ | BPF_K, call.number, 0, 1));
      program.push_back(statement(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
      continue;
    }
    // The arguments' lower halves: none of those looked at has more than 32 bits for the kernel.
    const auto argument =
        static_cast<uint32_t>(offsetof(seccomp_data, args) + sizeof(uint64_t) * call.index);
    program.push_back(jump(BPF_JMP | BPF_JEQ | BPF_K, call.number, 0, 5));
    program.push_back(statement(BPF_LD | BPF_W | BPF_ABS, argument));
    program.push_back(statement(BPF_ALU | BPF_AND | BPF_K, call.mask));
    program.push_back(jump(BPF_JMP | BPF_JEQ | BPF_K, call.value, 0, 1));
    program.push_back(statement(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    program.push_back(statement(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)));
  }
}

void forbidden(int, siginfo_t* info, void*) {
  // Nothing but calls that every filter allows.
  char text[] = "hob-vmm: stopped at the system call 0000, which its filter forbids\n";
  char* digit = std::strchr(text, '0') + 3;
  for (int number = info->si_syscall; number > 0 && *digit == '0'; number /= 10)
    *digit-- = static_cast<char>('0' + number % 10);
  (void)!write(STDERR_FILENO, text, sizeof text - 1);
  _exit(kExitForbidden);
}

}  // namespace

std::vector<sock_filter> filter_program(ThreadKind kind) {
  std::vector<sock_filter> program = {
      {BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(seccomp_data, arch)},
      {BPF_JMP | BPF_JEQ | BPF_K, 1, 0, AUDIT_ARCH_X86_64},
      {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_KILL_PROCESS},
      {BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(seccomp_data, nr)},
  };
  if (kind == ThreadKind::kVcpu) add(program, kVcpuOnly);
  add(program, kEveryThread);
  if (kind != ThreadKind::kVcpu) add(program, kLoop);
  if (kind == ThreadKind::kApi) {
    add(program, kStart);
    // Its flags lie in memory, out of a filter's sight: libc then takes `clone`.
    program.push_back({BPF_JMP | BPF_JEQ | BPF_K, 0, 1, SYS_clone3});
    program.push_back({BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | ENOSYS});
  }
  program.push_back({BPF_RET | BPF_K, 0, 0, SECCOMP_RET_TRAP});
  return program;
}

Result<void> install_filter(ThreadKind kind) {
  std::vector<sock_filter> filters = filter_program(kind);
  sock_fprog program{};
  program.len = static_cast<uint16_t>(filters.size());
  program.filter = filters.data();
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return fail_errno(errno, "PR_SET_NO_NEW_PRIVS");
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0)
    return fail_errno(errno, "setting a seccomp filter");
  return {};
}

void install_forbidden_handler() {
  struct sigaction action {};
  action.sa_sigaction = forbidden;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGSYS, &action, nullptr);
}

}  // namespace hob::microvm
