#include "guest/confine.h"

#include <grp.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <vector>

#include "guest/refused_calls.h"

namespace hob::guest {
namespace {

constexpr uint64_t bit(unsigned capability) { return uint64_t{1} << capability; }
constexpr uint64_t kCapabilities = bit(CAP_AUDIT_WRITE) | bit(CAP_CHOWN) | bit(CAP_DAC_OVERRIDE) |
                                   bit(CAP_FOWNER) | bit(CAP_FSETID) | bit(CAP_KILL) |
                                   bit(CAP_MKNOD) | bit(CAP_NET_BIND_SERVICE) | bit(CAP_NET_RAW) |
                                   bit(CAP_SETFCAP) | bit(CAP_SETGID) | bit(CAP_SETPCAP) |
                                   bit(CAP_SETUID) | bit(CAP_SYS_CHROOT);
static_assert(kCapabilities == 0xa80425fb, "what `capsh --decode` says of a Docker container");

constexpr uint32_t kX32Bit = 0x4000'0000;
constexpr uint32_t kNewNamespaces = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC |
                                    CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;

sock_filter load(uint32_t at) { return BPF_STMT(BPF_LD | BPF_W | BPF_ABS, at); }
sock_filter answer(uint32_t value) { return BPF_STMT(BPF_RET | BPF_K, value); }

// For calls of one architecture; the number is loaded. `clone`, `clone3`: theirs.
void add_calls(std::vector<sock_filter>& filter, std::span<const uint32_t> refused, uint32_t clone,
               uint32_t clone3) {
  const uint32_t no = SECCOMP_RET_ERRNO | EPERM;
  for (const uint32_t call : refused) {
    filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1));
    filter.push_back(answer(no));
  }
  // Its flags lie in memory, where a filter cannot look: libraries fall back to clone.
  filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, clone3, 0, 1));
  filter.push_back(answer(SECCOMP_RET_ERRNO | ENOSYS));
  filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, clone, 0, 3));
  filter.push_back(load(offsetof(seccomp_data, args[0])));
  filter.push_back(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, kNewNamespaces, 0, 1));
  filter.push_back(answer(no));
  filter.push_back(answer(SECCOMP_RET_ALLOW));
}

Result<void> refuse_calls() {
  constexpr uint32_t kClone32 = 120;
  constexpr uint32_t kClone3 = 435;  // of both
  std::vector<sock_filter> others;
  others.push_back(load(offsetof(seccomp_data, nr)));
  add_calls(others, refused_calls_i386(), kClone32, kClone3);
  std::vector<sock_filter> filter = {
      load(offsetof(seccomp_data, arch)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 2, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_I386, 2, 0), answer(SECCOMP_RET_KILL_PROCESS),
      BPF_STMT(BPF_JMP | BPF_JA, static_cast<uint32_t>(others.size()))};
  filter.insert(filter.end(), others.begin(), others.end());
  filter.push_back(load(offsetof(seccomp_data, nr)));
  filter.push_back(BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, kX32Bit, 0, 1));
  filter.push_back(answer(SECCOMP_RET_ERRNO | ENOSYS));
  add_calls(filter, refused_calls_x86_64(), SYS_clone, kClone3);
  const sock_fprog program{.len = static_cast<unsigned short>(filter.size()),
                           .filter = filter.data()};
  if (::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0)
    return fail_errno(errno, "refusing system calls");
  return {};
}

}  // namespace

Result<void> confine(const ImageUser& user) {
  for (unsigned capability = 0; capability <= CAP_LAST_CAP; ++capability) {
    // EINVAL: a kernel that does not know it.
    if ((kCapabilities & bit(capability)) == 0 &&
        ::prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0 && errno != EINVAL)
      return fail_errno(errno, "dropping a capability");
  }
  // While we may still do it without giving up that programs gain rights (sudo in an image works).
  HOB_CHECK(refuse_calls());
  const std::vector<gid_t> groups(user.groups.begin(), user.groups.end());
  if (::setgroups(groups.size(), groups.data()) != 0 ||
      ::setresgid(user.group, user.group, user.group) != 0 ||
      ::setresuid(user.user, user.user, user.user) != 0)
    return fail_errno(errno, "becoming the image's user");
  if (user.user != 0) return {};  // what is left of them is gone with root
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct sets[2]{};
  for (unsigned half = 0; half < 2; ++half)
    sets[half].effective = sets[half].permitted =
        static_cast<uint32_t>(kCapabilities >> (32 * half));
  if (::syscall(SYS_capset, &header, sets) != 0) return fail_errno(errno, "setting capabilities");
  return {};
}

}  // namespace hob::guest
