// hob-vm-run: runs one task in a microVM, as crun runs one in a container: for hob-monitor, whose
// runtime it is.
//
//   hob-vm-run BUNDLE CONTAINER_PID_FILE JAILER VMM USER FILE_BYTES_MAX NETWORK_NAMESPACE|-
//              KERNEL INITRD IMAGE [CGROUP_PROCS_FILE…]
//   hob-vm-run exec BUNDLE terminal|pipes WORD…
//
// The second form executes a command in a task that runs (execute.h), and ends as that does.
// BUNDLE has vm.json, hob-vmm's configuration, the scratch disk, and start.json, what hob-guest is
// told (guest/protocol.h). hob-vmm runs in a jail (jail.h). It ends when the task's program has
// been executed, or with a failure and words on stderr, leaving a process behind that
// CONTAINER_PID_FILE names: that has the monitor as its parent, prints what the task prints, ends
// as the task ends, and takes the microVM with it however it ends. A task that ended for want of
// memory leaves "oom" in BUNDLE.
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "guest/frame.h"
#include "sandbox/microvm_layout.h"
#include "sandbox/monitor_answer.h"
#include "sandbox/vm_run/execute.h"
#include "sandbox/vm_run/jail.h"

namespace hob::sandbox {
namespace {

constexpr int kKilled = 128 + SIGKILL;
constexpr int kEndPatienceMilliseconds = 10'000;  // from the task's end to the machine's
constexpr int kStartStepMilliseconds = 1'000;     // between looks at the clock
constexpr size_t kConsoleBytesMax = 4'096;        // the last of what the machine said

struct Plan {
  std::string bundle{}, pid_file{};
  JailPlan jail{};
};

// For the guest alone, by way of its hob-vmm.
Result<Fd> listen_for_guest(uid_t user) {
  if (::mkdir(kRunFolder, S_IRWXU) != 0) return fail_errno(errno, "making a folder for sockets");
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = fmt::format("{}_{}", kVsockFile, guest::kReportPort);
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  if (!fd || ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(fd.get(), 1) != 0 || ::chown(path.c_str(), user, user) != 0)
    return fail_errno(errno, "listening for the microVM");
  return fd;
}

bool write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return true;
}

class MicrovmTask {
 public:
  // `answer`: where the process that waits for the start is told kStarted, or why not.
  MicrovmTask(Plan plan, Fd answer) : plan_(std::move(plan)), answer_(std::move(answer)) {}
  int run() {
    const auto started = start();
    if (!started) {
      fail_start(started.error());
      return EXIT_FAILURE;
    }
    while (!exit_code_ && step()) {
    }
    end();
    return exit_code_.value_or(kKilled);
  }

 private:
  Result<void> start() {
    HOB_TRY(Fd listening, listen_for_guest(plan_.jail.user));
    HOB_CHECK(start_machine());
    HOB_CHECK(accept_guest(listening));
    HOB_CHECK(close_folder());
    HOB_TRY(const std::string order, read_file(kStartFile, guest::kOrderBytesMax));
    std::string bytes;
    guest::append_frame(bytes, guest::FrameKind::kRecord, 0, order);
    if (!write_all(guest_.get(), bytes)) return fail_errno(errno, "telling the microVM");
    const auto until = std::chrono::steady_clock::now() + kMicrovmStartTimeout;
    while (!started_ && !exit_code_) {
      if (std::chrono::steady_clock::now() > until)
        return fail(Code::kTimeout, "the task's program was not executed in time");
      if (!step()) return failure_ ? std::unexpected(*failure_) : ended_early("its init left");
    }
    return {};
  }

  Result<void> start_machine() {
    int console[2];
    if (::pipe2(console, O_CLOEXEC) != 0) return fail_errno(errno, "making a pipe");
    console_ = Fd(console[0]);
    ::fcntl(console[0], F_SETFL, O_NONBLOCK);
    const Fd theirs(console[1]);
    clone_args arguments{};
    int handle = -1;
    arguments.flags = CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_PIDFD;
    if (plan_.jail.network.empty()) arguments.flags |= CLONE_NEWNET;
    arguments.pidfd = reinterpret_cast<uintptr_t>(&handle);
    arguments.exit_signal = SIGCHLD;
    vmm_ = static_cast<pid_t>(::syscall(SYS_clone3, &arguments, sizeof arguments));
    if (vmm_ < 0) return fail_errno(errno, "making a process");
    if (vmm_ == 0) {
      console_.reset();
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      // We see no number of a parent in another namespace: its end of the pipe says that it lives.
      pollfd parent{.fd = theirs.get(), .events = 0, .revents = 0};
      if (::poll(&parent, 1, 0) != 0) ::_exit(EXIT_FAILURE);
      ::signal(SIGPIPE, SIG_DFL);
      ::dup2(theirs.get(), 1);
      ::dup2(theirs.get(), 2);
      const std::string text = execute_jailed(plan_.jail).message + "\n";
      write_all(STDERR_FILENO, text);
      ::_exit(EXIT_FAILURE);
    }
    vmm_handle_ = Fd(handle);
    return {};
  }

  // Before anything of the task runs: the machine's sockets are made, and what the jail's user
  // makes from now on is in the jail's memory alone, never on a disk of the host's.
  Result<void> close_folder() {
    constexpr mode_t kEnterOnly = S_IRWXU | S_IXGRP | S_IXOTH;
    if (::chown(kRunFolder, 0, 0) != 0 || ::chmod(kRunFolder, kEnterOnly) != 0)
      return fail_errno(errno, "closing the folder of sockets");
    return {};
  }

  Result<void> accept_guest(const Fd& listening) {
    const auto until = std::chrono::steady_clock::now() + kMicrovmStartTimeout;
    while (true) {
      const auto left = std::chrono::ceil<Duration>(until - std::chrono::steady_clock::now());
      if (left <= Duration(0)) return ended_early("it did not come up in time");
      std::array<pollfd, 3> waiting{
          pollfd{.fd = listening.get(), .events = POLLIN, .revents = 0},
          pollfd{.fd = console_.get(), .events = POLLIN, .revents = 0},
          pollfd{.fd = vmm_handle_.get(), .events = POLLIN, .revents = 0}};
      if (::poll(waiting.data(), waiting.size(), static_cast<int>(left.count())) < 0) continue;
      if (waiting[1].revents != 0) read_console();
      if (waiting[0].revents != 0) {
        guest_ = Fd(::accept4(listening.get(), nullptr, nullptr, SOCK_CLOEXEC));
        if (!guest_) return fail_errno(errno, "accepting the microVM's init");
        return {};
      }
      if (waiting[2].revents != 0) return ended_early("it ended");
    }
  }

  std::unexpected<Error> ended_early(std::string_view how) {
    while (console_ && read_console()) {
    }
    return fail(Code::kUnavailable, "the microVM did not start: {}: {}", how, said_);
  }

  // False: there is nothing (more) to read now.
  bool read_console() {
    char bytes[1024];
    const ssize_t got = ::read(console_.get(), bytes, sizeof bytes);
    if (got == 0) console_.reset();
    if (got <= 0) return false;
    said_.append(bytes, static_cast<size_t>(got));
    if (said_.size() > kConsoleBytesMax) said_.erase(0, said_.size() - kConsoleBytesMax);
    return true;
  }

  // Waits for anything; until the start for no longer than a while. False: there will be nothing
  // more.
  bool step() {
    std::array<pollfd, 3> waiting{pollfd{.fd = guest_.get(), .events = POLLIN, .revents = 0},
                                  pollfd{.fd = console_.get(), .events = POLLIN, .revents = 0},
                                  pollfd{.fd = vmm_handle_.get(), .events = POLLIN, .revents = 0}};
    if (::poll(waiting.data(), waiting.size(), started_ ? -1 : kStartStepMilliseconds) < 0)
      return errno == EINTR;
    if (waiting[1].revents != 0) read_console();
    if (waiting[0].revents != 0) return hear();
    return waiting[2].revents == 0;
  }

  bool hear() {
    char bytes[32 * 1024];
    const ssize_t got = ::recv(guest_.get(), bytes, sizeof bytes, 0);
    if (got < 0) return errno == EINTR;
    if (got == 0) return false;
    reader_.feed({bytes, static_cast<size_t>(got)});
    while (true) {
      auto frame = reader_.next();
      if (!frame) return refuse(frame.error());
      if (!*frame) return true;
      if (!take(**frame)) return false;
    }
  }

  bool take(const guest::Frame& frame) {
    switch (frame.kind) {
      case guest::FrameKind::kOutput:
        return write_all(STDOUT_FILENO, frame.body);
      case guest::FrameKind::kErrors:
        return write_all(STDERR_FILENO, frame.body);
      case guest::FrameKind::kInput:
        return refuse({.code = Code::kInvalid, .message = "a guest has no input for us"});
      case guest::FrameKind::kRecord:
        break;
    }
    const auto report = guest::decode_report(frame.body);
    if (!report) return refuse(report.error());
    if (report->container != 0) return true;
    switch (report->event) {
      case guest::Event::kStarted:
        started_ = true;
        write_all(answer_.get(), {&kStarted, 1});
        answer_.reset();
        return true;
      case guest::Event::kFailed:
        failure_ = Error{.code = report->invalid ? Code::kInvalid : Code::kUnavailable,
                         .message = report->reason};
        return false;
      case guest::Event::kExited:
        exit_code_ = report->exit_code;
        if (report->out_of_memory)
          Fd(::open(kOutOfMemoryFile, O_WRONLY | O_CREAT | O_CLOEXEC, 0600)).reset();
        return true;
      case guest::Event::kHealthy:
      case guest::Event::kUnhealthy:
      case guest::Event::kDone:
        return true;
    }
    return true;
  }

  bool refuse(const Error& error) {
    failure_ = Error{.code = Code::kUnavailable,
                     .message = "the microVM breaks the protocol: " + error.message};
    return false;
  }

  void fail_start(const Error& error) {
    const std::string text =
        (error.code == Code::kInvalid ? std::string(1, kInvalidMark) : "") + error.message;
    write_all(answer_.get(), text);
    if (vmm_ > 0) ::kill(vmm_, SIGKILL);
    if (vmm_ > 0) ::waitpid(vmm_, nullptr, 0);
  }

  // The machine ends by itself when its connection does; one that does not is killed.
  void end() {
    guest_.reset();
    pollfd ended{.fd = vmm_handle_.get(), .events = POLLIN, .revents = 0};
    if (!exit_code_ || ::poll(&ended, 1, kEndPatienceMilliseconds) != 1) ::kill(vmm_, SIGKILL);
    ::waitpid(vmm_, nullptr, 0);
  }

  const Plan plan_;
  Fd answer_;
  Fd console_, vmm_handle_, guest_;
  pid_t vmm_ = -1;
  guest::FrameReader reader_{guest::kReportBytesMax};
  std::string said_;
  bool started_ = false;
  std::optional<int> exit_code_;
  std::optional<Error> failure_;
};

// Complete or not there.
bool write_pid(const std::string& path, pid_t process) {
  const std::string temporary = path + ".tmp";
  const Fd file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  return file && write_all(file.get(), std::to_string(process)) &&
         std::rename(temporary.c_str(), path.c_str()) == 0;
}

int run(Plan plan) {
  if (::chdir(plan.bundle.c_str()) != 0) {
    std::perror(plan.bundle.c_str());
    return EXIT_FAILURE;
  }
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    std::perror("hob-vm-run: pipe");
    return EXIT_FAILURE;
  }
  const Fd answers(ends[0]);
  Fd answer(ends[1]);
  const pid_t task = ::fork();
  if (task < 0) {
    std::perror("hob-vm-run: fork");
    return EXIT_FAILURE;
  }
  if (task == 0) {
    ::setsid();
    ::signal(SIGPIPE, SIG_IGN);
    return MicrovmTask(std::move(plan), std::move(answer)).run();
  }
  answer.reset();
  // The task's own first words may come before we have ended, so nothing else is printed.
  if (!write_pid(plan.pid_file, task)) {
    std::perror(plan.pid_file.c_str());
    ::kill(task, SIGKILL);
    return EXIT_FAILURE;
  }
  std::string text;
  char bytes[1024];
  for (ssize_t got = 0; (got = ::read(answers.get(), bytes, sizeof bytes)) != 0;) {
    if (got > 0) text.append(bytes, static_cast<size_t>(got));
  }
  if (text == std::string(1, kStarted)) return EXIT_SUCCESS;
  write_all(STDERR_FILENO, text.empty() ? "hob-vm-run ended" : text);
  return EXIT_FAILURE;
}

}  // namespace
}  // namespace hob::sandbox

int main(int argc, char** argv) {
  constexpr int kWords = 11;
  constexpr int kExecuteWords = 5;
  if (argc >= kExecuteWords && std::string_view(argv[1]) == "exec") {
    const auto exit_code = hob::sandbox::execute_in_machine(
        {.bundle = argv[2],
         .terminal = std::string_view(argv[3]) == "terminal",
         .words = std::vector<std::string>(argv + kExecuteWords - 1, argv + argc)});
    if (exit_code) return *exit_code;
    std::fprintf(stderr, "%s\n", exit_code.error().message.c_str());
    return EXIT_FAILURE;
  }
  if (argc < kWords) {
    std::fputs("hob-vm-run is started by hob-monitor, one for each task in a microVM\n", stderr);
    return EXIT_FAILURE;
  }
  using namespace hob::sandbox;
  const std::string network = argv[7];
  return run({.bundle = argv[1],
              .pid_file = argv[2],
              .jail = {.id = std::filesystem::path(argv[1]).filename(),
                       .jailer = argv[3],
                       .vmm = argv[4],
                       .user = static_cast<uid_t>(std::strtoul(argv[5], nullptr, 10)),
                       .file_bytes_max = argv[6],
                       .network = network == "-" ? "" : network,
                       .kernel = argv[8],
                       .initrd = argv[9],
                       .image = argv[10],
                       .cgroups = std::vector<std::string>(argv + kWords, argv + argc)}});
}
