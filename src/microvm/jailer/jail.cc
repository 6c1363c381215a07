#include "microvm/jailer/jail.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <grp.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>

#include "base/file.h"

namespace hob::microvm {
namespace {

constexpr mode_t kPrivate = 0700;
constexpr mode_t kProgramMode = 0755;

// Anew, so that it has nobody else's hard links and no link leads elsewhere.
Result<void> copy_program(const std::string& from, const std::string& to) {
  // A FIFO would be waited for.
  const Fd source(open(from.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  struct stat status {};
  if (!source || fstat(source.get(), &status) < 0) return fail_errno(errno, "opening " + from);
  if (!S_ISREG(status.st_mode)) return fail(Code::kInvalid, "{} is no regular file", from);
  if (unlink(to.c_str()) < 0 && errno != ENOENT) return fail_errno(errno, "replacing " + to);
  const Fd copy(
      open(to.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, kProgramMode));
  if (!copy) return fail_errno(errno, "making " + to);
  for (off_t left = status.st_size; left > 0;) {
    const ssize_t done = sendfile(copy.get(), source.get(), nullptr, static_cast<size_t>(left));
    if (done <= 0) return fail_errno(errno, "copying " + from);
    left -= done;
  }
  if (fchmod(copy.get(), kProgramMode) < 0) return fail_errno(errno, "setting the mode of " + to);
  return {};
}

Result<void> set_limit(__rlimit_resource resource, uint64_t value, const char* name) {
  const rlimit limit{.rlim_cur = value, .rlim_max = value};
  if (setrlimit(resource, &limit) < 0) return fail_errno(errno, fmt::format("limiting {}", name));
  return {};
}

Result<void> mount_slave(const char* from, const char* to, unsigned long flags, const char* doing) {
  if (mount(from, to, nullptr, flags, nullptr) < 0) return fail_errno(errno, doing);
  return {};
}

Result<void> make_device(const std::string& path, dev_t number, const JailerOptions& options) {
  if (unlink(path.c_str()) < 0 && errno != ENOENT) return fail_errno(errno, "replacing " + path);
  if (mknod(path.c_str(), S_IFCHR | S_IRUSR | S_IWUSR, number) < 0)
    return fail_errno(errno, "making " + path);
  if (lchown(path.c_str(), options.uid, options.gid) < 0)
    return fail_errno(errno, "giving " + path);
  return {};
}

}  // namespace

Result<void> forget_caller() {
  if (syscall(SYS_close_range, 3, ~0u, 0) < 0) return fail_errno(errno, "closing descriptors");
  clearenv();
  return {};
}

Result<std::string> make_root(const JailerOptions& options) {
  const std::string root = options.base + "/" + options.file_name() + "/" + options.id + "/root";
  HOB_CHECK(make_directories(root, kPrivate));
  HOB_CHECK(copy_program(options.file, root + "/" + options.file_name()));
  return root;
}

Result<void> join_network_namespace(const std::string& path) {
  const Fd space(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!space) return fail_errno(errno, "opening " + path);
  if (setns(space.get(), CLONE_NEWNET) < 0) return fail_errno(errno, "joining " + path);
  return {};
}

Result<void> set_limits(const JailerOptions& options) {
  if (options.file_bytes_max)
    HOB_CHECK(set_limit(RLIMIT_FSIZE, *options.file_bytes_max, "the size of files"));
  return set_limit(RLIMIT_NOFILE, options.files_max, "the number of files");
}

Result<void> enter_root(const std::string& root) {
  if (unshare(CLONE_NEWNS) < 0) return fail_errno(errno, "making a mount namespace");
  // Nothing that is mounted from here on reaches the host.
  HOB_CHECK(mount_slave(nullptr, "/", MS_SLAVE | MS_REC, "making all mounts slaves"));
  HOB_CHECK(mount_slave(root.c_str(), root.c_str(), MS_BIND | MS_REC, "mounting the jail's root"));
  if (chdir(root.c_str()) < 0) return fail_errno(errno, "entering " + root);
  // One that was killed half way has left it behind.
  if (mkdir("old_root", kPrivate) < 0 && errno != EEXIST)
    return fail_errno(errno, "making old_root");
  if (syscall(SYS_pivot_root, ".", "old_root") < 0) return fail_errno(errno, "pivot_root");
  if (chdir("/") < 0) return fail_errno(errno, "entering the jail's root");
  if (umount2("old_root", MNT_DETACH) < 0) return fail_errno(errno, "leaving the old root");
  if (rmdir("old_root") < 0) return fail_errno(errno, "removing old_root");
  return {};
}

Result<void> make_devices(const JailerOptions& options, dev_t userfaultfd) {
  for (const char* folder : {"/", "/dev", "/dev/net", "/run"}) {
    if (mkdir(folder, kPrivate) < 0 && errno != EEXIST)
      return fail_errno(errno, fmt::format("making {}", folder));
    if (chmod(folder, kPrivate) < 0 || lchown(folder, options.uid, options.gid) < 0)
      return fail_errno(errno, fmt::format("giving {}", folder));
  }
  HOB_CHECK(make_device("/dev/net/tun", makedev(10, 200), options));
  HOB_CHECK(make_device("/dev/kvm", makedev(10, 232), options));
  if (userfaultfd != 0) HOB_CHECK(make_device("/dev/userfaultfd", userfaultfd, options));
  if (const auto random = make_device("/dev/urandom", makedev(1, 9), options); !random)
    fmt::print(stderr, "hob-jailer: without /dev/urandom: {}\n", random.error().message);
  return {};
}

Result<void> daemonize() {
  // Before the descriptors go: in the jail there is no /dev/null.
  const pid_t first = fork();
  if (first < 0) return fail_errno(errno, "fork");
  if (first > 0) _exit(0);
  if (setsid() < 0) return fail_errno(errno, "setsid");
  const pid_t second = fork();
  if (second < 0) return fail_errno(errno, "fork");
  if (second > 0) _exit(0);
  return {};
}

Result<void> write_pid(const std::string& pid_file, pid_t pid) {
  if (unlink(pid_file.c_str()) < 0 && errno != ENOENT)
    return fail_errno(errno, "replacing " + pid_file);
  const Fd file(open(pid_file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644));
  if (!file) return fail_errno(errno, "making " + pid_file);
  const std::string text = std::to_string(pid);
  if (write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()))
    return fail_errno(errno, "writing " + pid_file);
  return {};
}

Result<void> enter_pid_namespace(const std::string& pid_file) {
  clone_args arguments{};
  arguments.flags = CLONE_NEWPID;
  arguments.exit_signal = SIGCHLD;
  const long pid = syscall(SYS_clone3, &arguments, sizeof arguments);
  if (pid < 0) return fail_errno(errno, "making a PID namespace");
  if (pid == 0) return {};
  const auto written = write_pid(pid_file, static_cast<pid_t>(pid));
  if (written) _exit(0);
  kill(static_cast<pid_t>(pid), SIGKILL);
  return written;
}

Result<void> drop_privileges(const JailerOptions& options) {
  // A change of user takes it away.
  int death_signal = 0;
  if (prctl(PR_GET_PDEATHSIG, &death_signal) < 0) return fail_errno(errno, "PR_GET_PDEATHSIG");
  if (setgroups(0, nullptr) < 0) return fail_errno(errno, "leaving supplementary groups");
  if (setresgid(options.gid, options.gid, options.gid) < 0) return fail_errno(errno, "setgid");
  if (setresuid(options.uid, options.uid, options.uid) < 0) return fail_errno(errno, "setuid");
  uid_t uids[3] = {};
  gid_t gids[3] = {};
  if (getresuid(&uids[0], &uids[1], &uids[2]) < 0 || getresgid(&gids[0], &gids[1], &gids[2]) < 0)
    return fail_errno(errno, "looking who this is");
  for (int i = 0; i < 3; ++i)
    if (uids[i] != options.uid || gids[i] != options.gid)
      return fail(Code::kInternal, "privileges were not dropped");
  if (prctl(PR_SET_PDEATHSIG, death_signal) < 0) return fail_errno(errno, "PR_SET_PDEATHSIG");
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return fail_errno(errno, "PR_SET_NO_NEW_PRIVS");
  return {};
}

}  // namespace hob::microvm
