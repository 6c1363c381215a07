#include "sandbox/monitor.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <boost/json.hpp>
#include <cerrno>
#include <charconv>
#include <chrono>

#include "base/process.h"
#include "sandbox/limits.h"

namespace hob::sandbox {

namespace {

namespace fs = std::filesystem;
namespace json = boost::json;

constexpr int kSyncFd = 3;                          // where conmon says how the creation went
constexpr size_t kCommandLineBytesMax = 64 * 1024;  // of a process of the host, as far as we look

// The first line that comes through, or what came before the end.
Result<std::string> read_line(const Fd& pipe) {
  const auto until = std::chrono::steady_clock::now() + kRuntimeTimeout;
  std::string line;
  while (!line.contains('\n') && line.size() < kRuntimeMessageBytesMax) {
    const auto left = std::chrono::ceil<Duration>(until - std::chrono::steady_clock::now());
    if (left <= Duration(0))
      return fail(Code::kTimeout, "the runtime took longer than {} ms", kRuntimeTimeout.count());
    pollfd waiting{.fd = pipe.get(), .events = POLLIN, .revents = 0};
    if (::poll(&waiting, 1, static_cast<int>(left.count())) <= 0) continue;
    char buffer[4096];
    const ssize_t got = ::read(pipe.get(), buffer, sizeof(buffer));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    line.append(buffer, static_cast<size_t>(got));
  }
  return line.substr(0, line.find('\n'));
}

// {"data": 4711} with the container's process, or {"data": -1, "message": "…"}.
Result<void> understand(const std::string& line) {
  boost::json::error_code error;
  const json::value parsed = json::parse(line, error);
  const json::object* object = error ? nullptr : parsed.if_object();
  const json::value* data = object != nullptr ? object->if_contains("data") : nullptr;
  if (data == nullptr || !data->is_int64())
    return fail(Code::kUnavailable, "conmon ended without an answer: '{}'", line);
  if (data->get_int64() > 0) return {};
  const json::value* message = object->if_contains("message");
  std::string text =
      message != nullptr && message->is_string() ? std::string(message->get_string()) : "";
  while (text.ends_with('\n')) text.pop_back();
  // What is wrong with the image is found before (task_root.h): this may be the machine's trouble.
  return fail(Code::kUnavailable, "{}",
              text.empty() ? "crun could not create the container" : text);
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

Result<pid_t> create_container(const MonitorPlan& plan) {
  const MonitorFiles files = monitor_files(plan.bundle, plan.task);
  HOB_CHECK(make_directories(files.exit_directory, 0700));
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return fail_errno(errno, "making a pipe");
  const Fd read_end(ends[0]);
  Fd write_end(ends[1]);
  Command command;
  command.argv = {"conmon",
                  "--api-version",
                  "1",
                  "--cid",
                  plan.task,
                  "--cuuid",
                  plan.task,
                  "--name",
                  plan.task,
                  "--runtime",
                  plan.crun,
                  "--bundle",
                  plan.bundle,
                  "--container-pidfile",
                  files.container_pid,
                  "--conmon-pidfile",
                  files.monitor_pid,
                  "--exit-dir",
                  files.exit_directory,
                  "--full-attach",
                  "--log-path",
                  "k8s-file:" + plan.log.string(),
                  "--log-size-max",
                  std::to_string(kLogBytesMax),
                  "--log-level",
                  "error",
                  "--runtime-arg",
                  "--root",
                  "--runtime-arg",
                  plan.crun_state,
                  "--runtime-arg",
                  "--cgroup-manager=cgroupfs"};
  command.fds = {{write_end.get(), kSyncFd}};
  command.environment = {{"PATH", "/usr/sbin:/usr/bin:/sbin:/bin"},
                         {"_OCI_SYNCPIPE", std::to_string(kSyncFd)}};
  HOB_TRY(const Exit exit, run_blocking(command, kRuntimeTimeout));
  write_end.reset();
  if (exit.status != 0) {
    return fail(Code::kUnavailable, "conmon ended with status {}: {}", exit.status, exit.errors);
  }
  HOB_TRY(const std::string answer, read_line(read_end));
  HOB_CHECK(understand(answer));
  const std::optional<int> monitor = read_number(files.monitor_pid);
  if (!monitor) return fail(Code::kUnavailable, "conmon left no process id");
  return *monitor;
}

Result<void> run_container(const MonitorPlan& plan) {
  HOB_TRY(const Exit exit,
          run_blocking({.argv = {plan.crun, "--root", plan.crun_state, "start", plan.task}},
                       kRuntimeTimeout));
  if (exit.status != 0) return fail(Code::kInvalid, "crun start: {}", exit.errors);
  return {};
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
