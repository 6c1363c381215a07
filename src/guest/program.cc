#include "guest/program.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "guest/cgroup.h"
#include "guest/confine.h"
#include "guest/task_root.h"

namespace hob::guest {
namespace {

constexpr int kRoot = 0;
constexpr int kNamespaces = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS;

std::string variable(const std::vector<std::string>& environment, std::string_view name) {
  for (const std::string& entry : environment) {
    if (entry.size() > name.size() && entry.starts_with(name) && entry[name.size()] == '=')
      return entry.substr(name.size() + 1);
  }
  return {};
}

std::vector<char*> pointers(const std::vector<std::string>& words) {
  std::vector<char*> list;
  for (const std::string& word : words) list.push_back(const_cast<char*>(word.c_str()));
  list.push_back(nullptr);
  return list;
}

struct Pipe {
  Fd read_end{}, write_end{};
};
Result<Pipe> make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return fail_errno(errno, "making a pipe");
  return Pipe{.read_end = Fd(ends[0]), .write_end = Fd(ends[1])};
}

// The first process of a container. Returns what failed.
Error become(const Prepared& container, const Pipe& output, const Pipe& errors) {
  reset_signals();
  ::setsid();
  const Fd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (::dup2(null.get(), 0) < 0 || ::dup2(output.write_end.get(), 1) < 0 ||
      ::dup2(errors.write_end.get(), 2) < 0)
    return fail_errno(errno, "connecting the output").error();
  if (const auto joined = join_cgroup(container.index); !joined) return joined.error();
  // After it joined: the namespace's root is where it is now.
  if (::unshare(CLONE_NEWCGROUP) != 0)
    return fail_errno(errno, "making a cgroup namespace").error();
  if (::sethostname(container.host_name.data(), container.host_name.size()) != 0)
    return fail_errno(errno, "setting the host name").error();
  if (const auto entered = enter_root(container.root); !entered) return entered.error();
  return execute_program(container, container.arguments);
}

}  // namespace

void reset_signals() {
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  for (int number = 1; number < NSIG; ++number) ::signal(number, SIG_DFL);
}

Result<Prepared> prepare(const Start& start, int index) {
  const Container& container = start.containers[static_cast<size_t>(index)];
  Prepared prepared{.index = index,
                    .environment = container.environment,
                    .arguments = container.arguments,
                    .host_name = start.host_name,
                    .open_files_max = container.open_files_max};
  if (container.arguments.empty()) return fail(Code::kInvalid, "no command specified");
  HOB_TRY(prepared.root, mount_root(start, index));
  HOB_TRY(const TaskRoot root, TaskRoot::open(prepared.root.root));
  HOB_TRY(prepared.user,
          resolve_user(container.user, root.read("/etc/passwd", kAccountFileBytesMax),
                       root.read("/etc/group", kAccountFileBytesMax)));
  const bool has_home = std::ranges::any_of(
      prepared.environment, [](const std::string& entry) { return entry.starts_with("HOME="); });
  if (!has_home) prepared.environment.push_back("HOME=" + prepared.user.home);
  if (!container.working_directory.empty())
    prepared.working_directory = container.working_directory;
  HOB_CHECK(root.make_directories(prepared.working_directory, kRoot));
  HOB_CHECK(root.check_program(prepared.arguments.front(), variable(prepared.environment, "PATH"),
                               prepared.working_directory));
  HOB_CHECK(make_cgroup(index, container));
  return prepared;
}

Result<Launched> launch(const Prepared& container) {
  HOB_TRY(Pipe output, make_pipe());
  HOB_TRY(Pipe errors, make_pipe());
  HOB_TRY(Pipe answer, make_pipe());
  const auto process =
      static_cast<pid_t>(::syscall(SYS_clone, kNamespaces | SIGCHLD, nullptr, nullptr, nullptr, 0));
  if (process < 0) return fail_errno(errno, "making the container's process");
  if (process == 0) {
    const Error failed = become(container, output, errors);
    const char code = failed.code == Code::kInvalid ? 'i' : 'u';
    const std::string text = code + failed.message;
    (void)!::write(answer.write_end.get(), text.data(), text.size());
    ::_exit(127);
  }
  answer.write_end.reset();
  std::string text(kReasonBytesMax, '\0');
  ssize_t got = 0;
  do {
    got = ::read(answer.read_end.get(), text.data(), text.size());
  } while (got < 0 && errno == EINTR);
  if (got > 0) {
    ::waitpid(process, nullptr, 0);
    return fail(text[0] == 'i' ? Code::kInvalid : Code::kUnavailable, "{}",
                text.substr(1, static_cast<size_t>(got) - 1));
  }
  return Launched{.process = process,
                  .output = std::move(output.read_end),
                  .errors = std::move(errors.read_end)};
}

Error execute_program(const Prepared& container, const std::vector<std::string>& arguments) {
  const rlimit files{.rlim_cur = static_cast<rlim_t>(container.open_files_max),
                     .rlim_max = static_cast<rlim_t>(container.open_files_max)};
  if (::setrlimit(RLIMIT_NOFILE, &files) != 0)
    return fail_errno(errno, "limiting open files").error();
  if (const auto confined = confine(container.user); !confined) return confined.error();
  if (::chdir(container.working_directory.c_str()) != 0) {
    return fail(Code::kInvalid, "chdir to {}: {}", container.working_directory,
                std::strerror(errno))
        .error();
  }
  const std::vector<char*> argv = pointers(arguments);
  const std::vector<char*> environment = pointers(container.environment);
  const std::string& program = arguments.front();
  int failure = ENOENT;
  if (program.contains('/')) {
    ::execve(program.c_str(), argv.data(), environment.data());
    failure = errno;
  } else {
    const std::string path = variable(container.environment, "PATH");
    for (size_t at = 0; at <= path.size();) {
      const size_t end = std::min(path.find(':', at), path.size());
      const std::string folder = end > at ? path.substr(at, end - at) : ".";
      at = end + 1;
      ::execve((folder + "/" + program).c_str(), argv.data(), environment.data());
      // As a shell does: what is there and may not be run is worse than what is not there.
      if (errno != ENOENT && errno != ENOTDIR) failure = errno;
    }
  }
  return fail(Code::kInvalid, "exec: \"{}\": {}", program, std::strerror(failure)).error();
}

Result<void> enter_container(const Prepared& container, pid_t first_process) {
  const Fd handle(static_cast<int>(::syscall(SYS_pidfd_open, first_process, 0)));
  if (!handle) return fail_errno(errno, "finding the container");
  HOB_CHECK(join_cgroup(container.index));
  if (::setns(handle.get(), kNamespaces | CLONE_NEWCGROUP) != 0)
    return fail_errno(errno, "entering the container");
  return {};
}

}  // namespace hob::guest
