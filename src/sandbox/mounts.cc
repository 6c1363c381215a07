#include "sandbox/mounts.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "network/vpc.h"
#include "sandbox/limits.h"

namespace hob::sandbox {

namespace {

namespace fs = std::filesystem;

Result<void> write_map(pid_t process, const char* which, uint32_t first_id) {
  const std::string path = fmt::format("/proc/{}/{}", process, which);
  const std::string map = fmt::format("0 {} {}", first_id, kIdRangeSize);
  const Fd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file) return fail_errno(errno, "opening " + path);
  if (::write(file.get(), map.data(), map.size()) != static_cast<ssize_t>(map.size())) {
    return fail_errno(errno, "mapping ids in " + path);
  }
  return {};
}

// A user namespace that says which ids a mount's files get. It needs a process to be made, for a
// moment.
Result<Fd> id_mapping(uint32_t first_id) {
  // The bare system call: a fork() of this many-threaded process would run its atfork handlers, and
  // the child does nothing but wait to be killed: by us, or by our end. It holds none of our files,
  // so that an agent that is killed here leaves no address in use.
  const pid_t parent = ::getpid();
  const long forked =
      ::syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, nullptr, nullptr, nullptr, nullptr);
  if (forked < 0) return fail_errno(errno, "making a user namespace");
  if (forked == 0) {
    ::syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    ::syscall(SYS_close_range, 0, ~0U, 0);
    while (::syscall(SYS_getppid) == parent) ::syscall(SYS_pause);
    ::syscall(SYS_exit_group, 0);
  }
  const auto child = static_cast<pid_t>(forked);
  const auto map = [&]() -> Result<Fd> {
    HOB_CHECK(write_map(child, "uid_map", first_id));
    HOB_CHECK(write_map(child, "gid_map", first_id));
    const std::string path = fmt::format("/proc/{}/ns/user", child);
    Fd made(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!made) return fail_errno(errno, "opening " + path);
    return made;
  };
  Result<Fd> mapped = map();
  ::kill(child, SIGKILL);
  while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
  return mapped;
}

Result<void> move_mount_to(const Fd& mounted, const char* where) {
  if (::syscall(SYS_move_mount, mounted.get(), "", AT_FDCWD, where, MOVE_MOUNT_F_EMPTY_PATH) != 0) {
    return fail_errno(errno, fmt::format("mounting {}", where));
  }
  return {};
}

// The layer at `where` with the task's ids instead of the host's. Layers are stored once, owned by
// plain root.
Result<void> mount_layer(const fs::path& layer, const char* where, const Fd& ids) {
  const Fd tree(static_cast<int>(
      ::syscall(SYS_open_tree, AT_FDCWD, layer.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)));
  if (!tree) return fail_errno(errno, "opening layer " + layer.string());
  mount_attr attributes{};
  attributes.attr_set = MOUNT_ATTR_IDMAP | MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV;
  attributes.userns_fd = static_cast<uint64_t>(ids.get());
  if (::syscall(SYS_mount_setattr, tree.get(), "", AT_EMPTY_PATH, &attributes,
                sizeof(attributes)) != 0) {
    auto failed = fail_errno(errno, "mapping the ids of layer " + layer.string());
    failed.error().message +=
        " (its file system must support id-mapped mounts: ext4, xfs, btrfs on Linux 5.19 or newer "
        "do)";
    return failed;
  }
  return move_mount_to(tree, where);
}

Result<void> make_directory(const char* path, mode_t mode) {
  if (::mkdir(path, mode) != 0) return fail_errno(errno, fmt::format("making {}", path));
  return {};
}

// /sys shows the devices of the namespace it was mounted in, and a task's own root may not mount
// it: the network namespace is not the task's. So we do.
Result<Fd> open_sysfs(const fs::path& network_namespace) {
  return network::socket_in(network_namespace, []() -> Result<Fd> {
    const Fd context(static_cast<int>(::syscall(SYS_fsopen, "sysfs", FSOPEN_CLOEXEC)));
    if (!context ||
        ::syscall(SYS_fsconfig, context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) {
      return fail_errno(errno, "mounting sysfs");
    }
    Fd mounted(static_cast<int>(
        ::syscall(SYS_fsmount, context.get(), FSMOUNT_CLOEXEC,
                  MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)));
    if (!mounted) return fail_errno(errno, "mounting sysfs");
    return mounted;
  });
}

}  // namespace

Result<TaskMounts> enter_task_mounts(MountPlan plan) {
  if (plan.layers.empty() || plan.layers.size() > kLayersMax) {
    return fail(Code::kInvalid, "an image of {} layers; it has 1 to {}", plan.layers.size(),
                kLayersMax);
  }
  HOB_TRY(const Fd ids, id_mapping(plan.first_id));
  HOB_TRY(const Fd sysfs, open_sysfs(plan.network_namespace));
  if (::unshare(CLONE_NEWNS) != 0) return fail_errno(errno, "making a mount namespace");
  // Slave: what the machine unmounts later goes here too and is not kept busy; nothing goes back.
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) != 0) {
    return fail_errno(errno, "leaving the machine's mounts");
  }
  if (!plan.hybrid_cgroup_tree.empty() &&
      ::umount2(plan.hybrid_cgroup_tree.c_str(), MNT_DETACH) != 0) {
    return fail_errno(errno, "unmounting " + plan.hybrid_cgroup_tree.string());
  }
  if (::mount("hob", plan.mount_point.c_str(), "tmpfs", MS_NOSUID | MS_NODEV,
              "mode=0711,size=1m") != 0) {
    return fail_errno(errno, "mounting at " + plan.mount_point.string());
  }
  // Relative from here (the namespace gave this thread a working directory of its own): overlayfs
  // takes its lower directories in one string of at most a page.
  if (::chdir(plan.mount_point.c_str()) != 0)
    return fail_errno(errno, "entering " + plan.mount_point.string());
  for (const char* name : {"scratch", "root", "sys"}) HOB_CHECK(make_directory(name, 0755));
  HOB_CHECK(move_mount_to(sysfs, "sys"));
  HOB_CHECK(move_mount_to(plan.scratch, "scratch"));
  for (const char* name : {"scratch/upper", "scratch/work", "scratch/files"})
    HOB_CHECK(make_directory(name, 0755));
  if (::chown("scratch/upper", plan.first_id, plan.first_id) != 0)
    return fail_errno(errno, "chown of the upper layer");

  std::string lower;
  for (size_t i = 0; i < plan.layers.size(); ++i) {
    const std::string name = std::to_string(i);
    HOB_CHECK(make_directory(name.c_str(), 0755));
    HOB_CHECK(mount_layer(plan.layers[i], name.c_str(), ids));
    lower += (lower.empty() ? "" : ":") + name;
  }
  // volatile: no fsync of the task reaches the disk through overlayfs, as the disk dies with the
  // task.
  const std::string options =
      "volatile,lowerdir=" + lower + ",upperdir=scratch/upper,workdir=scratch/work";
  if (::mount("overlay", "root", "overlay", MS_NODEV, options.c_str()) != 0) {
    return fail_errno(errno, fmt::format("mounting an overlay of {} layers", plan.layers.size()));
  }
  return TaskMounts{.upper = plan.mount_point / "scratch/upper",
                    .root = plan.mount_point / "root",
                    .files = plan.mount_point / "scratch/files",
                    .sys = plan.mount_point / "sys"};
}

}  // namespace hob::sandbox
