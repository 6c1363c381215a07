// The cgroups of one instance's tasks: "hob-<instance>/<task>" in every hierarchy, made by crun,
// watched and removed by us. Both worlds: version 1 with one mount per controller (also "hybrid",
// with an empty version 2 tree beside), and version 2 alone. Blocking, but short. Any thread.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/time.h"

namespace hob::sandbox {

enum class CgroupVersion { kV1, kV2 };

class Cgroups {
 public:
  // kUnavailable: /sys/fs/cgroup has neither.
  static Result<Cgroups> detect(const std::string& instance);

  CgroupVersion version() const { return version_; }
  // Where a hybrid host has its version 2 tree; empty: it has none. crun 1.8 refuses to run while
  // it is mounted.
  const std::filesystem::path& hybrid_tree() const { return hybrid_tree_; }
  // Whether this host limits swap: a kernel may be told not to account it.
  bool accounts_swap() const { return accounts_swap_; }
  // As an OCI bundle's linux.cgroupsPath wants it.
  std::string path_of(const std::string& task) const { return "/" + root_ + "/" + task; }

  // Makes a task's, which crun does for containers; answers the files that a process of the task
  // writes "0" to. cpu: 1/1024 CPU.
  Result<std::vector<std::filesystem::path>> make(const std::string& task, int cpu,
                                                  int memory_mib) const;
  // The processes of a task, of this host's numbers. Empty: none, or no such cgroup.
  std::vector<pid_t> processes(const std::string& task) const;
  bool contains(const std::string& task, pid_t process) const;
  // Did the kernel kill any of its processes for want of memory?
  bool was_out_of_memory(const std::string& task) const;
  // Where a task's processes are frozen and thawed (freezer.h). kUnavailable: this host's version 1
  // has no freezer.
  Result<std::filesystem::path> freezer_of(const std::string& task) const;
  // Kills all of them, frozen ones too, and waits until they have ended. kTimeout: some did not.
  Result<void> kill_all(const std::string& task) const;
  // Removes a task's, which has no processes any more. Idempotent.
  Result<void> remove(const std::string& task) const;
  // Puts a monitor among the instance's, out of whatever unit started us: systemd ends a unit with
  // all in it. Nothing happens where systemd does not run.
  void adopt_monitor(pid_t process) const;
  // Likewise the kernel's own threads that work for a task, on version 2: Linux before 6.13 puts
  // one of KVM's among the microVM's, none of them can be frozen, and a cgroup with one in it never
  // is.
  Result<void> part_kernel_threads(const std::string& task) const;
  // Removes the instance's own. False: something is still in it, if only a process nobody has
  // waited for yet.
  bool remove_root() const;
  // The tasks that have one.
  std::vector<std::string> tasks() const;

 private:
  Cgroups() = default;
  CgroupVersion version_ = CgroupVersion::kV2;
  bool accounts_swap_ = false;
  std::string root_{};                                  // "hob-3f21aa"
  std::vector<std::filesystem::path> hierarchies_{};    // mounts with tasks' cgroups; v2: the one
  std::vector<std::filesystem::path> monitor_trees_{};  // mounts that systemd follows processes by
  std::filesystem::path hybrid_tree_{};
  std::filesystem::path processes_{};  // the hierarchy where we look for processes
};

// Whether /proc/PID/stat (proc_pid_stat(5)) is a thread's of the kernel's own.
bool is_kernel_thread(std::string_view stat);

}  // namespace hob::sandbox
