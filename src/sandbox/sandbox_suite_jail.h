// What a microVM's monitor has of its host, should its guest break out into it. Looked at from
// outside, and by a process that becomes one.
#pragma once

#include <grp.h>
#include <sys/stat.h>

#include <algorithm>

#include "sandbox/cgroups.h"
#include "sandbox/guest_order.h"
#include "sandbox/id_ranges.h"
#include "sandbox/microvm_layout.h"
#include "sandbox/monitor.h"
#include "sandbox/sandbox_suite.h"

namespace hob::sandbox {

class JailSuite : public SandboxSuite {
 protected:
  // The task's hob-vmm; -1: none.
  pid_t monitor_of(const TaskSpec& spec) {
    const auto cgroups = Cgroups::detect(instance());
    for (const pid_t process : cgroups->processes(spec.task)) {
      if (read_file(fmt::format("/proc/{}/comm", process), 64).value_or("") == "hob-vmm\n")
        return process;
    }
    return -1;
  }
  // A line of /proc/PID/status, from its name's end on.
  static std::string status(pid_t process, const std::string& name) {
    const std::string text = read_file(fmt::format("/proc/{}/status", process), 64 * 1024).value();
    const size_t at = text.find("\n" + name + ":\t");
    if (at == std::string::npos) return "no " + name;
    const size_t begin = at + name.size() + 3;
    return text.substr(begin, text.find('\n', begin) - begin);
  }
  static std::string space(pid_t process, const char* kind) {
    return std::filesystem::read_symlink(fmt::format("/proc/{}/ns/{}", process, kind)).string();
  }
  static uid_t user_of(pid_t process) {
    return static_cast<uid_t>(std::stoul(status(process, "Uid")));
  }
  // What opening it answers to the monitor, were it to try: 0, or an errno.
  static int opens(pid_t monitor, const std::string& path, int flags) {
    const pid_t child = ::fork();
    if (child == 0) {
      const uid_t user = user_of(monitor);
      if (::chroot(fmt::format("/proc/{}/root", monitor).c_str()) != 0 || ::chdir("/") != 0 ||
          ::setgroups(0, nullptr) != 0 || ::setresgid(user, user, user) != 0 ||
          ::setresuid(user, user, user) != 0)
        ::_exit(255);
      ::_exit(::open(path.c_str(), flags, 0600) >= 0 ? 0 : errno);
    }
    int result = 0;
    ::waitpid(child, &result, 0);
    return WEXITSTATUS(result);
  }
  std::filesystem::path bundle(const TaskSpec& spec) const {
    return place_.directory / "tasks" / spec.task;
  }
};

TEST_P(JailSuite, AMachineHasWhatItNeedsAndNothingElse) {
  const TaskSpec first = script("while true; do sleep 1; done");
  const TaskSpec second = script("while true; do sleep 1; done");
  ASSERT_TRUE(agent_->start(first).has_value());
  ASSERT_TRUE(agent_->start(second).has_value());
  const pid_t monitor = monitor_of(first);
  const pid_t other = monitor_of(second);
  ASSERT_GT(monitor, 0);
  ASSERT_GT(other, 0);

  const uid_t user = user_of(monitor);
  EXPECT_EQ(status(monitor, "Uid"), fmt::format("{0}\t{0}\t{0}\t{0}", user));
  EXPECT_EQ(status(monitor, "Gid"), fmt::format("{0}\t{0}\t{0}\t{0}", user));
  EXPECT_GE(user, kIdRangeFirst);
  EXPECT_NE(user, user_of(other));
  EXPECT_EQ(status(monitor, "Groups").find_first_not_of(' '), std::string::npos);
  for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapAmb"})
    EXPECT_EQ(status(monitor, set), "0000000000000000") << set;
  EXPECT_EQ(status(monitor, "NoNewPrivs"), "1");
  for (const auto& thread :
       std::filesystem::directory_iterator(fmt::format("/proc/{}/task", monitor)))
    EXPECT_EQ(status(std::stoi(thread.path().filename()), "Seccomp"), "2") << thread.path();
  EXPECT_EQ(status(monitor, "NSpid"), fmt::format("{}\t1", monitor));
  for (const char* kind : {"mnt", "pid", "net", "ipc", "uts"}) {
    EXPECT_NE(space(monitor, kind), space(::getpid(), kind)) << kind;
    EXPECT_NE(space(monitor, kind), space(other, kind)) << kind;
  }
  const std::string limits = read_file(fmt::format("/proc/{}/limits", monitor), 64 * 1024).value();
  EXPECT_NE(limits.find(fmt::format("{:<26}{:<21}{:<21}", "Max file size", 64 << 20, 64 << 20)),
            std::string::npos)
      << limits;

  std::vector<std::string> names;
  for (const auto& entry :
       std::filesystem::directory_iterator(fmt::format("/proc/{}/root", monitor)))
    names.push_back(entry.path().filename());
  std::ranges::sort(names);
  EXPECT_EQ(names, (std::vector<std::string>{"dev", "hob-vmm", "image", "initrd", "kernel", "run",
                                             "scratch", "vm.json"}));
  EXPECT_EQ(shell(fmt::format("cut -d' ' -f5,6 /proc/{}/mountinfo | grep -c .", monitor)), "7\n");

  EXPECT_EQ(opens(monitor, "/scratch", O_RDWR), 0);
  EXPECT_EQ(opens(monitor, "/dev/kvm", O_RDWR), 0);
  for (const char* shared : {"/kernel", "/initrd", "/image", "/vm.json"}) {
    EXPECT_EQ(opens(monitor, shared, O_RDONLY), 0) << shared;
    EXPECT_NE(opens(monitor, shared, O_RDWR), 0) << shared;
  }
  EXPECT_EQ(opens(monitor, "/run/more", O_RDWR | O_CREAT), EACCES);
  EXPECT_EQ(opens(monitor, "/etc/passwd", O_RDONLY), ENOENT);
  EXPECT_EQ(opens(monitor, bundle(second) / kScratchFile, O_RDWR), ENOENT);
  struct stat scratch {};
  ASSERT_EQ(::stat((bundle(second) / kScratchFile).c_str(), &scratch), 0);
  EXPECT_EQ(scratch.st_uid, user_of(other));
  EXPECT_EQ(scratch.st_mode & 0777, 0600u);
  // In the host's mounts there is nothing to clear up.
  EXPECT_TRUE(std::filesystem::is_empty(bundle(first) / kJailFolder));

  // It goes with its runtime, however that goes.
  ASSERT_EQ(::kill(*read_number(monitor_files(bundle(first), first.task).container_pid), SIGKILL),
            0);
  EXPECT_EQ(agent_->wait(first.task).value().exit_code, 137);
  while (monitor_of(first) >= 0) ::usleep(2'000);
}

TEST_P(JailSuite, ACommandIsExecutedInAMachineThatRuns) {
  const TaskSpec spec = script("while true; do sleep 1; done");
  ASSERT_TRUE(agent_->start(spec).has_value());
  const std::string execute =
      find_own_program("hob-vm-run")->string() + " exec " + bundle(spec).string();
  EXPECT_EQ(shell("echo given | " + execute +
                  " pipes /bin/sh -c 'cat; hostname; echo wrong >&2; exit 7'; echo $?"),
            "given\n" + spec.host_name + "\n7\nwrong\n");
  // Much in both directions at once.
  EXPECT_EQ(shell("head -c 3000000 /dev/zero | " + execute + " pipes /bin/cat | wc -c"),
            "3000000\n");
  // At a terminal a line's end is two characters.
  EXPECT_EQ(
      shell(execute + " terminal /bin/sh -c 'test -t 0 && echo yes; exit 3' < /dev/null; echo $?"),
      "yes\r\n3\n");
  EXPECT_TRUE(shell(execute + " pipes no-such-program < /dev/null; echo $?").contains("127\n"));
  EXPECT_NE(shell(execute + "x pipes true; echo $?").find("No such file"), std::string::npos);
}

TEST_P(JailSuite, AMachineThatSleptKnowsWhatTimeItIs) {
  const TaskSpec spec = script("while true; do busybox date +%Y; sleep 0.1; done");
  ASSERT_TRUE(agent_->start(spec).has_value());
  constexpr int64_t kLongAgo = int64_t{1'000'000'000} * 1'000'000'000;  // in 2001
  ASSERT_TRUE(order_guest(bundle(spec), {.clock_nanoseconds = kLongAgo}).has_value());
  while (!output(spec.task).ends_with("2001\n")) ::usleep(2'000);
  ASSERT_TRUE(agent_->freeze(spec.task).has_value());
  ASSERT_TRUE(agent_->thaw(spec.task).has_value());
  agent_->catch_up(spec.task);
  while (output(spec.task).ends_with("2001\n")) ::usleep(2'000);
}

}  // namespace hob::sandbox
