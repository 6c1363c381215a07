// hob-monitor: starts one task's runtime, then holds the task's output and, in the end, its exit
// status, whatever becomes of the agent. One for each task, so it is small: no library but libc's
// and the compiler's, nothing allocated.
//
//   hob-monitor PID_FILE CONTAINER_PID_FILE EXIT_FILE LOG_FILE LOG_BYTES_MAX RUNTIME ARGUMENTS…
//
// It ends at once, leaving a process of its own behind that writes PID_FILE, runs the runtime,
// which must write CONTAINER_PID_FILE and end when the container runs, and then answers on
// descriptor kAnswerFd: kStarted; or kFailed and what the runtime said. EXIT_FILE appears, whole,
// when the container has ended and all that it printed is in LOG_FILE.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "sandbox/monitor_answer.h"
#include "sandbox/output_log.h"

namespace hob::sandbox {
namespace {

// Signals that end a process and that are not meant for this one: it goes with its container.
constexpr std::array kIgnored = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE, SIGUSR1, SIGUSR2};

struct Plan {
  const char* pid_file;
  const char* container_pid_file;
  const char* exit_file;
  const char* log_file;
  uint64_t log_bytes_max;
  char** runtime;  // argv
};

// What the agent is waiting for. Said once.
class Answer {
 public:
  void started() { say(kStarted, ""); }
  [[noreturn]] void failed(std::string_view text) {
    say(kFailed, text);
    ::_exit(EXIT_FAILURE);
  }
  [[noreturn]] void failed_errno(const char* doing) {
    std::array<char, 512> text;
    std::snprintf(text.data(), text.size(), "hob-monitor: %s: %s", doing, std::strerror(errno));
    failed(text.data());
  }

 private:
  static void say(char first, std::string_view text) {
    std::array<char, 1 + kOutputChunkBytesMax> message;
    message[0] = first;
    std::memcpy(message.data() + 1, text.data(), text.size());
    // Nobody hears it when the agent is gone, and the next agent looks at the files.
    if (::write(kAnswerFd, message.data(), 1 + text.size()) < 0) return;
    ::close(kAnswerFd);
  }
};

// Complete or not there.
bool write_number(const char* path, int number) {
  std::array<char, PATH_MAX> temporary;
  std::array<char, 16> text;
  const int length = std::snprintf(text.data(), text.size(), "%d", number);
  std::snprintf(temporary.data(), temporary.size(), "%s.tmp", path);
  const int file = ::open(temporary.data(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (file < 0) return false;
  const bool wrote = ::write(file, text.data(), static_cast<size_t>(length)) == length;
  ::close(file);
  return wrote && std::rename(temporary.data(), path) == 0;
}

// 0: none.
pid_t read_pid(const char* path) {
  std::array<char, 16> text{};
  const int file = ::open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return 0;
  const ssize_t got = ::read(file, text.data(), text.size() - 1);
  ::close(file);
  return got > 0 ? static_cast<pid_t>(std::strtol(text.data(), nullptr, 10)) : 0;
}

// The kernel, short of memory, should look at the task first. Needs a right that root may lack.
void spare_from_oom() {
  const int file = ::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (file < 0) return;
  [[maybe_unused]] const ssize_t wrote = ::write(file, "-1000", 5);
  ::close(file);
}

class Monitor {
 public:
  explicit Monitor(const Plan& plan) : plan_(plan), log_(plan.log_file, plan.log_bytes_max) {}
  [[noreturn]] void run();

 private:
  void become_independent();
  pid_t spawn_runtime();
  void start();
  // Waits for anything; collects what has ended.
  void step();
  void reap();
  // False: there is nothing (more) to read now.
  bool move_output(size_t stream);
  void finish();

  const Plan plan_;
  Answer answer_;
  OutputLog log_;
  std::array<int, 2> output_ = {-1, -1};  // read ends of the task's stdout and stderr; -1: closed
  std::array<int, 2> theirs_ = {-1, -1};  // and its own ends, until the runtime has them
  int children_ = -1;                     // readable when one has ended
  pid_t container_ = 0;
  int status_ = 0;
  bool ended_ = false;
  std::array<char, kOutputChunkBytesMax> chunk_;  // touched only as far as a task prints
};

void Monitor::become_independent() {
  ::setsid();
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);  // the container becomes our child when the runtime ends
  for (const int number : kIgnored) ::signal(number, SIG_IGN);
  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  ::sigprocmask(SIG_BLOCK, &child, nullptr);
  children_ = ::signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
  if (children_ < 0) answer_.failed_errno("signalfd");
  if (!write_number(plan_.pid_file, ::getpid())) answer_.failed_errno(plan_.pid_file);
  if (!log_.open()) answer_.failed_errno(plan_.log_file);
  for (size_t i = 0; i < output_.size(); ++i) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) answer_.failed_errno("pipe");
    output_[i] = ends[0];
    theirs_[i] = ends[1];
    ::fcntl(output_[i], F_SETFL, O_NONBLOCK);
  }
}

pid_t Monitor::spawn_runtime() {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, theirs_[0], STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, theirs_[1], STDERR_FILENO);
  posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
  sigset_t none;
  sigset_t ignored;
  sigemptyset(&none);
  sigemptyset(&ignored);
  for (const int number : kIgnored) sigaddset(&ignored, number);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &ignored);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  pid_t runtime = 0;
  errno =
      ::posix_spawn(&runtime, plan_.runtime[0], &actions, &attributes, plan_.runtime, ::environ);
  if (errno != 0) answer_.failed_errno(plan_.runtime[0]);
  for (int& end : theirs_) ::close(end);
  return runtime;
}

void Monitor::start() {
  become_independent();
  const pid_t runtime = spawn_runtime();
  int status = 0;
  while (::waitpid(runtime, &status, 0) < 0 && errno == EINTR) {
  }
  if (status != 0) {
    // Nothing but the runtime has printed yet, or it has and its end is the reason.
    const ssize_t said = ::read(output_[1], chunk_.data(), chunk_.size());
    answer_.failed(std::string_view(chunk_.data(), said > 0 ? static_cast<size_t>(said) : 0));
  }
  container_ = read_pid(plan_.container_pid_file);
  if (container_ <= 0) answer_.failed_errno(plan_.container_pid_file);
  answer_.started();
}

void Monitor::reap() {
  std::array<signalfd_siginfo, 4> seen;
  while (::read(children_, seen.data(), sizeof(seen)) > 0) {
  }
  int status = 0;
  pid_t child = 0;
  while ((child = ::waitpid(-1, &status, WNOHANG)) > 0) {
    if (child != container_) continue;
    status_ = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    ended_ = true;
  }
}

bool Monitor::move_output(size_t stream) {
  const ssize_t got = ::read(output_[stream], chunk_.data(), chunk_.size());
  if (got < 0 && errno == EINTR) return true;
  if (got < 0 && errno == EAGAIN) return false;
  if (got <= 0) {
    ::close(output_[stream]);
    output_[stream] = -1;
    return false;
  }
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  log_.write(stream == 0 ? OutputStream::kStdout : OutputStream::kStderr,
             std::string_view(chunk_.data(), static_cast<size_t>(got)), now);
  return true;
}

void Monitor::step() {
  std::array<pollfd, 3> waiting = {{{.fd = output_[0], .events = POLLIN, .revents = 0},
                                    {.fd = output_[1], .events = POLLIN, .revents = 0},
                                    {.fd = children_, .events = POLLIN, .revents = 0}}};
  if (::poll(waiting.data(), waiting.size(), -1) < 0) return;
  for (size_t stream = 0; stream < output_.size(); ++stream) {
    if (waiting[stream].revents != 0) move_output(stream);
  }
  if (waiting[2].revents != 0) reap();
}

void Monitor::finish() {
  // The container's first process takes all others with it before its end can be seen, so what is
  // in the pipes is all there will be.
  for (size_t stream = 0; stream < output_.size(); ++stream) {
    while (output_[stream] >= 0 && move_output(stream)) {
    }
  }
  // Where the disk is full there is no file, and the agent takes the task for killed.
  if (!write_number(plan_.exit_file, status_)) ::_exit(EXIT_FAILURE);
}

void Monitor::run() {
  start();
  spare_from_oom();
  // A child of this process that had ended before its SIGCHLD could be read is found here.
  reap();
  while (!ended_) step();
  finish();
  ::_exit(EXIT_SUCCESS);
}

}  // namespace
}  // namespace hob::sandbox

int main(int argc, char** argv) {
  constexpr int kWords = 6;
  if (argc <= kWords) {
    std::fputs("hob-monitor is started by hobd, one for each task\n", stderr);
    return EXIT_FAILURE;
  }
  const pid_t forked = ::fork();
  if (forked < 0) {
    std::perror("hob-monitor: fork");
    return EXIT_FAILURE;
  }
  if (forked > 0) ::_exit(EXIT_SUCCESS);
  static hob::sandbox::Monitor monitor({.pid_file = argv[1],
                                        .container_pid_file = argv[2],
                                        .exit_file = argv[3],
                                        .log_file = argv[4],
                                        .log_bytes_max = std::strtoull(argv[5], nullptr, 10),
                                        .runtime = argv + kWords});
  monitor.run();
}
