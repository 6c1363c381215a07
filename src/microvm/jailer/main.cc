// hob-jailer: starts a monitor in a root, namespaces and cgroups of its own, without privileges.
#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/version.h"
#include "microvm/jailer/jail.h"
#include "microvm/jailer/options.h"

namespace hob::microvm {
namespace {

constexpr int kExitFailed = 1;

constexpr std::string_view kHelp =
    "hob-jailer: a microVM's monitor in a jail, with the options of Firecracker's jailer\n"
    "\n"
    "  --id ID                  1 to 64 letters, digits, '-'\n"
    "  --exec-file PATH         the monitor\n"
    "  --uid N, --gid N         whose it shall be\n"
    "  --chroot-base-dir PATH   its root is PATH/FILE/ID/root (default /srv/jailer)\n"
    "  --cgroup-version 1|2     (default 1)\n"
    "  --cgroup FILE=VALUE      into its cgroup PARENT/ID; may be given again\n"
    "  --parent-cgroup PATH     (default the file's name)\n"
    "  --netns PATH             the network namespace to join\n"
    "  --resource-limit fsize=N|no-file=N   (default no-file=2048)\n"
    "  --daemonize, --new-pid-ns\n"
    "  --version, --help\n"
    "  -- ARGUMENTS             for the monitor\n";

uint64_t microseconds(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000 + static_cast<uint64_t>(now.tv_nsec) / 1000;
}

// Returns only when it failed.
Result<void> run(const JailerOptions& options) {
  const uint64_t started_us = microseconds(CLOCK_MONOTONIC);
  const uint64_t started_cpu_us = microseconds(CLOCK_PROCESS_CPUTIME_ID);
  HOB_CHECK(forget_caller());
  struct stat userfaultfd {};
  const bool has_faults = stat("/dev/userfaultfd", &userfaultfd) == 0;
  HOB_TRY(const std::string root, make_root(options));
  if (!options.network_namespace.empty())
    HOB_CHECK(join_network_namespace(options.network_namespace));
  HOB_CHECK(set_limits(options));
  HOB_CHECK(enter_cgroups(options));
  const Fd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  HOB_CHECK(enter_root(root));
  HOB_CHECK(make_devices(options, has_faults ? userfaultfd.st_rdev : 0));
  const std::string pid_file = "/" + options.file_name() + ".pid";
  if (options.daemonize) {
    HOB_CHECK(daemonize());
    for (const int fd : {0, 1, 2})
      if (dup2(null.get(), fd) < 0) return fail_errno(errno, "taking /dev/null");
  }
  if (options.new_pid_namespace) HOB_CHECK(enter_pid_namespace(pid_file));
  if (options.daemonize && !options.new_pid_namespace) HOB_CHECK(write_pid(pid_file, getpid()));
  HOB_CHECK(drop_privileges(options));
  const uint64_t parent_us = microseconds(CLOCK_PROCESS_CPUTIME_ID) - started_cpu_us;
  std::vector<std::string> arguments = {"/" + options.file_name(),
                                        "--id",
                                        options.id,
                                        "--start-time-us",
                                        std::to_string(started_us),
                                        "--start-time-cpu-us",
                                        std::to_string(microseconds(CLOCK_PROCESS_CPUTIME_ID)),
                                        "--parent-cpu-time-us",
                                        std::to_string(parent_us)};
  arguments.insert(arguments.end(), options.rest.begin(), options.rest.end());
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  char* environment[] = {nullptr};
  execve(argv[0], argv.data(), environment);
  return fail_errno(errno, "starting " + options.file);
}

int start(const std::vector<std::string_view>& arguments) {
  const auto own_end = std::ranges::find(arguments, "--");
  const auto asked = [&](std::string_view name) {
    return std::find(arguments.begin(), own_end, name) != own_end;
  };
  if (asked("--help") || asked("-h")) {
    fmt::print("{}", kHelp);
    return 0;
  }
  if (asked("--version")) {
    fmt::print("Jailer v1.17.0\n\nhob-jailer {}\n", kVersion);
    return 0;
  }
  const auto options = read_jailer_options(arguments);
  if (!options) {
    fmt::print(stderr, "hob-jailer: {}\n", options.error().message);
    return kExitFailed;
  }
  const auto failed = run(*options);
  fmt::print(stderr, "hob-jailer: {}\n", failed.error().message);
  return kExitFailed;
}

}  // namespace
}  // namespace hob::microvm

int main(int argc, char** argv) {
  return hob::microvm::start(std::vector<std::string_view>(argv + 1, argv + argc));
}
