#include "sandbox/monitor.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <map>

#include "base/process.h"
#include "sandbox/limits.h"
#include "sandbox/monitor_answer.h"
#include "sandbox/output_log.h"

namespace hob::sandbox {

namespace {

namespace fs = std::filesystem;

static_assert(kRuntimeMessageBytesMax >= kOutputChunkBytesMax);

constexpr size_t kCommandLineBytesMax = 64 * 1024;  // of a process of the host, as far as we look

// What comes through until the other end is closed.
Result<std::string> read_answer(const Fd& pipe, Duration patience) {
  const auto until = std::chrono::steady_clock::now() + patience;
  std::string answer;
  while (answer.size() <= kRuntimeMessageBytesMax) {
    const auto left = std::chrono::ceil<Duration>(until - std::chrono::steady_clock::now());
    if (left <= Duration(0))
      return fail(Code::kTimeout, "the runtime took longer than {} ms", patience.count());
    pollfd waiting{.fd = pipe.get(), .events = POLLIN, .revents = 0};
    if (::poll(&waiting, 1, static_cast<int>(left.count())) <= 0) continue;
    char buffer[4096];
    const ssize_t got = ::read(pipe.get(), buffer, sizeof(buffer));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    answer.append(buffer, static_cast<size_t>(got));
  }
  return answer;
}

Result<void> understand(std::string answer) {
  if (answer.empty()) return fail(Code::kUnavailable, "the monitor ended without an answer");
  if (answer.front() == kStarted) return {};
  while (answer.ends_with('\n')) answer.pop_back();
  const std::string text = answer.substr(std::min<size_t>(1, answer.size()));
  if (text.starts_with(kInvalidMark)) return fail(Code::kInvalid, "{}", text.substr(1));
  return fail(Code::kUnavailable, "{}", text.empty() ? "the runtime could not start it" : text);
}

std::string command_line(pid_t process) {
  const auto text = read_file(fmt::format("/proc/{}/cmdline", process), kCommandLineBytesMax);
  return text ? *text : "";
}

// As one of its words, or the beginning of one that goes on below it.
bool names(const std::string& command_line, const fs::path& path) {
  const std::string wanted = path.string();
  for (size_t at = command_line.find(wanted); at != std::string::npos;
       at = command_line.find(wanted, at + 1)) {
    const size_t end = at + wanted.size();
    if (end == command_line.size() || command_line[end] == '\0' || command_line[end] == '/')
      return true;
  }
  return false;
}

}  // namespace

MonitorFiles monitor_files(const fs::path& bundle, const std::string& task) {
  return {.monitor_pid = bundle / "monitor.pid",
          .container_pid = bundle / "container.pid",
          .exit_directory = bundle / "exit",
          .exit_status = bundle / "exit" / task};
}

Result<fs::path> find_own_program(const std::string& name) {
  std::error_code error;
  const fs::path own = fs::read_symlink("/proc/self/exe", error).parent_path();
  for (const fs::path& folder : {own, own.parent_path() / "bin", own.parent_path() / "libexec"}) {
    const fs::path path = folder / name;
    if (::access(path.c_str(), X_OK) == 0) return path;
  }
  return fail(Code::kNotFound, "the program {} is not installed with {}", name, own.string());
}

Result<pid_t> run_container(const MonitorPlan& plan) {
  const MonitorFiles files = monitor_files(plan.bundle, plan.task);
  HOB_CHECK(make_directories(files.exit_directory, 0700));
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return fail_errno(errno, "making a pipe");
  const Fd read_end(ends[0]);
  Fd write_end(ends[1]);
  Command command;
  command.argv = {plan.monitor,      files.monitor_pid, files.container_pid,
                  files.exit_status, plan.log,          std::to_string(kLogBytesMax)};
  command.argv.insert(command.argv.end(), plan.runtime.begin(), plan.runtime.end());
  command.fds = {{write_end.get(), kAnswerFd}};
  command.environment =
      std::map<std::string, std::string>{{"PATH", "/usr/sbin:/usr/bin:/sbin:/bin"}};
  HOB_TRY(const Exit exit, run_blocking(command, kRuntimeTimeout));
  write_end.reset();
  if (exit.status != 0) {
    return fail(Code::kUnavailable, "{} ended with status {}: {}", plan.monitor.string(),
                exit.status, exit.errors);
  }
  HOB_TRY(std::string answer, read_answer(read_end, plan.patience));
  HOB_CHECK(understand(std::move(answer)));
  const std::optional<int> monitor = read_number(files.monitor_pid);
  if (!monitor) return fail(Code::kUnavailable, "the monitor left no process id");
  return *monitor;
}

std::optional<int> read_number(const fs::path& file) {
  const auto text = read_file(file, 64);
  int value = 0;
  if (!text || std::from_chars(text->data(), text->data() + text->size(), value).ec != std::errc())
    return std::nullopt;
  return value;
}

std::vector<pid_t> processes_naming(const fs::path& path) {
  std::vector<pid_t> found;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator("/proc", ignored)) {
    const std::string name = entry.path().filename().string();
    pid_t process = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), process);
    if (error != std::errc() || end != name.data() + name.size() || process == ::getpid()) continue;
    if (names(command_line(process), path)) found.push_back(process);
  }
  return found;
}

Fd open_process(pid_t process, const fs::path& path) {
  Fd handle(static_cast<int>(::syscall(SYS_pidfd_open, process, 0)));
  // Asked after the handle was taken: then the answer is about the process that it holds.
  if (handle && !names(command_line(process), path)) handle.reset();
  return handle;
}

}  // namespace hob::sandbox
