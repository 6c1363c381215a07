#include "microvm/jail/filter.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/if_tun.h>
#include <linux/io_uring.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <thread>

namespace hob::microvm {
namespace {

// In a process of its own, under the filter: 0 unless the call was forbidden.
template <class Call>
void under(ThreadKind kind, Call call) {
  install_forbidden_handler();
  if (!install_filter(kind)) _exit(99);
  call();
  _exit(0);
}

TEST(SeccompFilter, AForbiddenCallEndsTheProcessAndIsNamed) {
  struct Case {
    const char* name;
    ThreadKind kind;
    void (*call)();
    int exit_code;
  };
  const Case cases[] = {
      {"the API's thread runs no program", ThreadKind::kApi,
       [] { syscall(SYS_execve, nullptr, nullptr, nullptr); }, kExitForbidden},
      {"makes no process", ThreadKind::kApi, [] { syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); },
       kExitForbidden},
      {"looks into no process", ThreadKind::kApi,
       [] { syscall(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0); }, kExitForbidden},
      {"has no network", ThreadKind::kApi, [] { syscall(SYS_socket, AF_INET, SOCK_STREAM, 0); },
       kExitForbidden},
      {"makes no code", ThreadKind::kApi,
       [] {
         syscall(SYS_mmap, 0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
       },
       kExitForbidden},
      {"looks which KVM there is", ThreadKind::kApi, [] { syscall(SYS_access, "/", F_OK); }, 0},
      {"but opens files", ThreadKind::kApi, [] { syscall(SYS_openat, AT_FDCWD, "/", 0); }, 0},
      {"the machine's loop makes no thread", ThreadKind::kVmm,
       [] { syscall(SYS_clone, CLONE_THREAD, 0, 0, 0, 0); }, kExitForbidden},
      {"makes no ring", ThreadKind::kVmm, [] { syscall(SYS_io_uring_setup, 8, nullptr); },
       kExitForbidden},
      {"gives a ring no other buffers", ThreadKind::kVmm,
       [] { syscall(SYS_io_uring_register, -1, IORING_REGISTER_BUFFERS, nullptr, 0); },
       kExitForbidden},
      {"but another file", ThreadKind::kVmm,
       [] { syscall(SYS_io_uring_register, -1, IORING_REGISTER_FILES_UPDATE, nullptr, 0); }, 0},
      {"types on no terminal", ThreadKind::kVmm, [] { syscall(SYS_ioctl, -1, TIOCSTI, "x"); },
       kExitForbidden},
      {"nor before it runs", ThreadKind::kApi, [] { syscall(SYS_ioctl, -1, TIOCSTI, "x"); },
       kExitForbidden},
      {"but puts its own back", ThreadKind::kVmm, [] { syscall(SYS_ioctl, -1, TCSETS, nullptr); },
       0},
      {"takes no other tap", ThreadKind::kVmm, [] { syscall(SYS_ioctl, -1, TUNSETIFF, nullptr); },
       kExitForbidden},
      {"takes no other filter", ThreadKind::kVmm, [] { syscall(SYS_seccomp, 0, 0, nullptr); },
       kExitForbidden},
      {"a CPU's thread makes no file", ThreadKind::kVcpu,
       [] { syscall(SYS_openat, AT_FDCWD, "/tmp/x", O_RDWR | O_CREAT, 0600); }, kExitForbidden},
      {"no ring", ThreadKind::kVcpu, [] { syscall(SYS_io_uring_setup, 8, nullptr); },
       kExitForbidden},
      {"calls of KVM only to run", ThreadKind::kVcpu, [] { syscall(SYS_ioctl, -1, 0xae01, 0); },
       kExitForbidden},
      {"has no socket", ThreadKind::kVcpu, [] { syscall(SYS_socket, AF_UNIX, SOCK_STREAM, 0); },
       kExitForbidden},
      {"and runs", ThreadKind::kVcpu, [] { syscall(SYS_ioctl, -1, 0xae80, 0); }, 0},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    const char* said = c.exit_code == 0 ? "" : "which its filter forbids";
    EXPECT_EXIT(under(c.kind, c.call), ::testing::ExitedWithCode(c.exit_code), said);
  }
  EXPECT_EXIT(under(ThreadKind::kVcpu, [] { syscall(SYS_execve, nullptr, nullptr, nullptr); }),
              ::testing::ExitedWithCode(kExitForbidden), "call 0059,");
}

TEST(SeccompFilter, AThreadIsMadeUnderTheFirstAndRunsUnderBoth) {
  EXPECT_EXIT(under(ThreadKind::kApi,
                    [] {
                      std::thread([] {
                        if (!install_filter(ThreadKind::kVcpu)) _exit(98);
                        syscall(SYS_ioctl, -1, 0xae80, 0);
                      }).join();
                    }),
              ::testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace hob::microvm
