// System calls that containers are refused, by architecture: what Docker's default profile leaves
// out for want of a capability that containers lack (docs.docker.com, "Seccomp security profiles").
#pragma once

#include <cstdint>
#include <span>

namespace hob::guest {

std::span<const uint32_t> refused_calls_x86_64();
std::span<const uint32_t> refused_calls_i386();

}  // namespace hob::guest

// Both architectures have the names, with numbers of their own.
#define HOB_REFUSED_CALLS                                                                       \
  __NR_acct, __NR_add_key, __NR_bpf, __NR_clock_settime, __NR_delete_module, __NR_finit_module, \
      __NR_fsconfig, __NR_fsmount, __NR_fsopen, __NR_fspick, __NR_init_module,                  \
      __NR_io_uring_enter, __NR_io_uring_register, __NR_io_uring_setup, __NR_ioperm, __NR_iopl, \
      __NR_kcmp, __NR_kexec_load, __NR_keyctl, __NR_lookup_dcookie, __NR_mount,                 \
      __NR_mount_setattr, __NR_move_mount, __NR_move_pages, __NR_open_by_handle_at,             \
      __NR_open_tree, __NR_perf_event_open, __NR_pivot_root, __NR_quotactl, __NR_reboot,        \
      __NR_request_key, __NR_setns, __NR_settimeofday, __NR_swapoff, __NR_swapon, __NR_sysfs,   \
      __NR_umount2, __NR_unshare, __NR_uselib, __NR_userfaultfd, __NR_ustat, __NR_vhangup
