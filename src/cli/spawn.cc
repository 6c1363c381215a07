#include "cli/spawn.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace hob::cli {
namespace {

// An edge's loops are 64 at most, a ring of 200 KiB each; while it hands over there are two.
constexpr rlim_t kLockedBytes = 64 * 1024 * 1024;

// What the child was doing when it failed, sent to the parent with errno.
struct Failure {
  int error = 0;
  char step[32] = {};
};

[[noreturn]] void give_up(int report, const char* step) {
  Failure failure;
  failure.error = errno;
  strncpy(failure.step, step, sizeof failure.step - 1);
  if (write(report, &failure, sizeof failure) < 0) _exit(126);
  _exit(127);
}

// Between fork and exec: system calls only.
[[noreturn]] void become(const DaemonCommand& command, char* const* argv, pid_t supervisor,
                         int report, int name_space, int program) {
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  signal(SIGPIPE, SIG_IGN);
  // No terminal is theirs: Ctrl-C is the supervisor's, and nothing may ask there.
  setsid();

  // First above everything in use, then to their places: a number wanted by one may be another's
  // now.
  int highest = report;
  for (const auto& [ours, theirs] : command.fds) highest = std::max({highest, ours, theirs});
  highest = std::max({highest, name_space, program});
  const int report_high = fcntl(report, F_DUPFD_CLOEXEC, highest + 1);
  const int program_high = fcntl(program, F_DUPFD_CLOEXEC, highest + 1);
  if (report_high < 0 || program_high < 0) give_up(report, "keeping a descriptor");
  std::vector<int> moved(command.fds.size());
  for (size_t i = 0; i < command.fds.size(); ++i) {
    moved[i] = fcntl(command.fds[i].first, F_DUPFD_CLOEXEC, highest + 1);
    if (moved[i] < 0) give_up(report_high, "keeping a descriptor");
  }
  if (name_space >= 0 && setns(name_space, CLONE_NEWNET) != 0)
    give_up(report_high, "entering the VPC");
  const int nothing = open("/dev/null", O_RDWR);
  if (nothing < 0 || dup2(nothing, 0) < 0 || dup2(nothing, 1) < 0)
    give_up(report_high, "opening /dev/null");
  int last = 2;
  for (size_t i = 0; i < moved.size(); ++i) {
    if (dup2(moved[i], command.fds[i].second) < 0) give_up(report_high, "placing a descriptor");
    last = std::max(last, command.fds[i].second);
  }
  // The rest goes at exec, so that failures can still be told.
  close_range(static_cast<unsigned>(last) + 1, ~0U, CLOSE_RANGE_CLOEXEC);

  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }
  // The edge's rings, and its successor's. Where it may not be raised there is epoll.
  rlimit locked{};
  if (getrlimit(RLIMIT_MEMLOCK, &locked) == 0 && locked.rlim_max < kLockedBytes) {
    locked.rlim_cur = locked.rlim_max = kLockedBytes;
    setrlimit(RLIMIT_MEMLOCK, &locked);
  }
  if (command.uid != 0) {
    if (setgroups(0, nullptr) != 0) give_up(report_high, "leaving groups");
    if (setresgid(command.uid, command.uid, command.uid) != 0)
      give_up(report_high, "changing group");
    if (setresuid(command.uid, command.uid, command.uid) != 0)
      give_up(report_high, "changing user");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) give_up(report_high, "no_new_privs");
  }
  // After changing user, which clears it. Not SIGTERM: there is nobody left to wait for a graceful
  // end.
  if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0) give_up(report_high, "PR_SET_PDEATHSIG");
  if (getppid() != supervisor) _exit(0);
  if (chdir("/") != 0) give_up(report_high, "changing directory");
  umask(022);
  // By descriptor: the folders above it may be closed to this user (a clone in /root).
  execveat(program_high, "", argv, environ, AT_EMPTY_PATH);
  give_up(report_high, "exec");
}

}  // namespace

Result<std::shared_ptr<const Fd>> open_program(const std::string& path) {
  Fd program(open(path.c_str(), O_PATH | O_CLOEXEC));
  if (!program) return fail_errno(errno, "opening " + path);
  return std::make_shared<const Fd>(std::move(program));
}

Result<Child> spawn_daemon(const DaemonCommand& command) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return fail_errno(errno, "making a pipe");
  Fd reading(ends[0]);
  Fd writing(ends[1]);
  Fd name_space;
  if (!command.network_namespace.empty()) {
    name_space = Fd(open(command.network_namespace.c_str(), O_RDONLY | O_CLOEXEC));
    if (!name_space) return fail_errno(errno, "opening " + command.network_namespace.string());
  }
  std::vector<char*> argv;
  for (const std::string& argument : command.argv)
    argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);

  const pid_t supervisor = getpid();
  const pid_t pid = fork();
  if (pid < 0) return fail_errno(errno, "forking");
  if (pid == 0)
    become(command, argv.data(), supervisor, writing.get(), name_space.get(),
           command.program->get());
  writing.reset();
  Child child{.pid = pid, .pidfd = Fd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)))};
  Failure failure;
  ssize_t got = 0;
  do {
    got = read(reading.get(), &failure, sizeof failure);
  } while (got < 0 && errno == EINTR);
  if (got == static_cast<ssize_t>(sizeof failure)) {
    waitpid(pid, nullptr, 0);
    failure.step[sizeof failure.step - 1] = '\0';
    return fail_errno(failure.error, "starting " + command.argv.front() + ": " + failure.step);
  }
  if (!child.pidfd) {
    const int error = errno;
    kill(pid, SIGKILL);  // nobody would see it end
    waitpid(pid, nullptr, 0);
    return fail_errno(error, "pidfd_open");
  }
  return child;
}

}  // namespace hob::cli
