#include "sandbox/task_files.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <thread>

#include "base/log.h"
#include "sandbox/limits.h"

namespace hob::sandbox {

namespace {

namespace fs = std::filesystem;

constexpr int kKilled = 128 + SIGKILL;
constexpr Duration kEmptyPatience =
    std::chrono::milliseconds(500);  // for init to wait for what we orphaned
constexpr Duration kEmptyStep = std::chrono::milliseconds(5);
constexpr int kMonitorPatienceMilliseconds =
    2'000;  // for a monitor to write the last lines of a dead task's log

bool wait_readable(const Fd& handle, int milliseconds) {
  pollfd waiting{.fd = handle.get(), .events = POLLIN, .revents = 0};
  int ready = 0;
  while ((ready = ::poll(&waiting, 1, milliseconds)) < 0 && errno == EINTR) {
  }
  return ready > 0;
}

Result<void> send_signal(const Fd& process, int number) {
  if (::syscall(SYS_pidfd_send_signal, process.get(), number, nullptr, 0) != 0 && errno != ESRCH) {
    return fail_errno(errno, "sending a signal");
  }
  return {};
}

Result<void> check(const TaskSpec& spec) {
  if (!is_task_id(spec.task)) return fail(Code::kInvalid, "'{}' is no task id", spec.task);
  if (spec.memory_mib < kMemoryMibMin) {
    return fail(Code::kInvalid, "{} MiB of memory; at least {}", spec.memory_mib, kMemoryMibMin);
  }
  if (spec.cpu <= 0 || spec.processes_max <= 0)
    return fail(Code::kInvalid, "a task needs CPU and processes");
  return {};
}

}  // namespace

bool is_task_id(const std::string& text) {
  return text.size() == 32 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

std::string host_name(const TaskSpec& spec) {
  return spec.host_name.empty() ? spec.task.substr(0, 12) : spec.host_name;
}

std::string hosts_file(const TaskSpec& spec) {
  std::string hosts = "127.0.0.1\tlocalhost\n";
  if (!spec.address.empty()) hosts += spec.address + "\t" + host_name(spec) + "\n";
  return hosts;
}

std::string resolv_file(const TaskSpec& spec) {
  return spec.name_server.empty() ? "" : "nameserver " + spec.name_server + "\noptions ndots:0\n";
}

Result<void> write_task_file(const fs::path& path, std::string_view content, uid_t owner) {
  const Fd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!file) return fail_errno(errno, "making " + path.string());
  if (::write(file.get(), content.data(), content.size()) != static_cast<ssize_t>(content.size())) {
    return fail_errno(errno, "writing " + path.string());
  }
  if (owner != 0 && ::fchown(file.get(), owner, owner) != 0)
    return fail_errno(errno, "chown of " + path.string());
  return {};
}

Result<fs::path> find_program(const std::string& name) {
  for (const char* folder : {"/usr/bin", "/usr/sbin", "/usr/local/bin", "/bin"}) {
    const fs::path path = fs::path(folder) / name;
    if (::access(path.c_str(), X_OK) == 0) return path;
  }
  return fail(Code::kNotFound, "the program {} is not installed", name);
}

int64_t open_files_max() {
  rlimit open_files{};
  ::getrlimit(RLIMIT_NOFILE, &open_files);
  return static_cast<int64_t>(std::min<rlim_t>(open_files.rlim_max, kOpenFilesMax));
}

Result<std::unique_ptr<TaskFiles>> TaskFiles::open(fs::path directory, const Cgroups& cgroups,
                                                   std::unique_ptr<Launcher> launcher) {
  std::unique_ptr<TaskFiles> files(
      new TaskFiles(std::move(directory), cgroups, std::move(launcher)));
  for (const char* name : {"tasks", "logs"})
    HOB_CHECK(make_directories(files->directory_ / name, 0700));
  HOB_CHECK(files->clear_leftovers());
  return files;
}

bool TaskFiles::was_started(const std::string& task) const {
  std::error_code ignored;
  return fs::exists(bundle(task) / "running", ignored);
}

Result<void> TaskFiles::clear_leftovers() {
  std::vector<std::string> leftovers;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(directory_ / "tasks", ignored)) {
    const std::string task = entry.path().filename().string();
    if (!was_started(task)) leftovers.push_back(task);
  }
  for (const std::string& task : cgroups_.tasks()) {
    if (!was_started(task) && std::ranges::find(leftovers, task) == leftovers.end())
      leftovers.push_back(task);
  }
  std::vector<std::string> kept = tasks();
  for (const std::string& task : leftovers) {
    log::warn("removing a half-made task", {{"task", task}});
    // One that cannot be removed (a process that the kernel holds, say) must not keep all others
    // from being run: it is tried again at the next start, and keeps its range of ids until then.
    if (const Result<void> removed = remove(task); !removed) {
      log::error("what is left of a task cannot be removed now",
                 {{"task", task}, {"error", removed.error().message}});
      kept.push_back(task);
    }
  }
  return launcher_->open(kept);
}

std::vector<std::string> TaskFiles::tasks() const {
  std::vector<std::string> found;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(directory_ / "tasks", ignored)) {
    std::string task = entry.path().filename().string();
    if (was_started(task)) found.push_back(std::move(task));
  }
  std::ranges::sort(found);
  return found;
}

Result<void> TaskFiles::start(const TaskSpec& spec) {
  HOB_CHECK(check(spec));
  std::shared_lock together(common_);
  std::error_code error;
  if (!fs::create_directory(bundle(spec.task), error)) {
    if (!error) return fail(Code::kExists, "task {} is here already", spec.task);
    return fail(Code::kUnavailable, "making {}: {}", bundle(spec.task).string(), error.message());
  }
  Result<void> started;
  std::thread([&] { started = start_here(spec); }).join();
  if (started) started = write_task_file(bundle(spec.task) / "running", "");
  if (started) return {};
  together.unlock();
  if (const auto removed = remove(spec.task); !removed) {
    log::warn("a task that did not start could not be removed",
              {{"task", spec.task}, {"reason", removed.error().message}});
  }
  return started;
}

Result<void> TaskFiles::start_here(const TaskSpec& spec) {
  HOB_TRY(MonitorPlan plan, launcher_->prepare(spec, bundle(spec.task)));
  TaskLog task_log = log(spec.task);
  HOB_CHECK(task_log.make());
  plan.log = task_log.path();
  HOB_TRY(const pid_t process, run_container(plan));
  cgroups_.adopt_monitor(process);
  if (const auto parted = cgroups_.part_kernel_threads(spec.task); !parted)
    log::warn("a task cannot be frozen", {{"task", spec.task}, {"reason", parted.error().message}});
  task_log.rotate();
  return {};
}

void TaskFiles::wait_for_monitor(const std::string& task) const {
  const fs::path path = bundle(task);
  const auto monitor = read_number(monitor_files(path, task).monitor_pid);
  if (!monitor) return;
  const Fd handle = open_process(*monitor, path);
  if (handle) wait_readable(handle, kMonitorPatienceMilliseconds);
}

Result<void> TaskFiles::end_monitor(const std::string& task) const {
  const fs::path path = bundle(task);
  // It is stuck, or half-made and may be about to make more: until none is found.
  const auto until = std::chrono::steady_clock::now() + kKillTimeout;
  while (true) {
    const std::vector<pid_t> left = processes_naming(path);
    if (left.empty()) return {};
    for (const pid_t process : left) {
      const Fd handle = open_process(process, path);
      if (!handle) continue;
      HOB_CHECK(send_signal(handle, SIGKILL));
      wait_readable(handle, kMonitorPatienceMilliseconds);
    }
    if (std::chrono::steady_clock::now() > until) {
      return fail(Code::kTimeout, "{} processes of task {} outlived SIGKILL", left.size(), task);
    }
  }
}

Result<void> TaskFiles::remove(const std::string& task) {
  if (!is_task_id(task)) return fail(Code::kInvalid, "'{}' is no task id", task);
  // From here on it is a leftover, should we be killed.
  const bool whole = ::unlink((bundle(task) / "running").c_str()) == 0;
  if (!whole) HOB_CHECK(end_monitor(task));  // before its container, which it might be making
  HOB_CHECK(cgroups_.kill_all(task));
  if (whole) {
    // It ends by itself with its container, after it wrote the last of the log.
    wait_for_monitor(task);
    HOB_CHECK(end_monitor(task));
  }
  HOB_CHECK(cgroups_.remove(task));
  HOB_CHECK(launcher_->release(task));
  HOB_CHECK(remove_tree(bundle(task)));
  remove_if_empty();
  return {};
}

Result<void> TaskFiles::signal(const std::string& task, int number) const {
  if (!is_task_id(task) || !was_started(task))
    return fail(Code::kNotFound, "there is no task {}", task);
  return launcher_->signal(task, bundle(task), number);
}

void TaskFiles::catch_up(const std::string& task) const {
  if (is_task_id(task) && was_started(task)) launcher_->catch_up(bundle(task));
}

Result<std::shared_ptr<Freezer>> TaskFiles::freezer(const std::string& task) const {
  HOB_TRY(fs::path cgroup, cgroups_.freezer_of(task));
  return std::make_shared<Freezer>(cgroups_.version(), std::move(cgroup));
}

Result<Fd> TaskFiles::open_monitor(const std::string& task) const {
  if (!is_task_id(task) || !was_started(task))
    return fail(Code::kNotFound, "there is no task {}", task);
  const auto monitor = read_number(monitor_files(bundle(task), task).monitor_pid);
  if (!monitor) return Fd();
  return open_process(*monitor, bundle(task));
}

Result<TaskExit> TaskFiles::exit_of(const std::string& task) const {
  TaskExit exit;
  if (const auto status = read_number(monitor_files(bundle(task), task).exit_status)) {
    exit.exit_code = *status;
  } else {
    // The monitor was killed: the output has nowhere to go and the exit would be seen by nobody.
    log::warn("a task's monitor is gone, the task is killed", {{"task", task}});
    HOB_CHECK(cgroups_.kill_all(task));
    exit.exit_code = kKilled;
  }
  exit.out_of_memory = exit.exit_code != 0 && launcher_->was_out_of_memory(task, bundle(task));
  return exit;
}

void TaskFiles::remove_if_empty() {
  const auto until = std::chrono::steady_clock::now() + kEmptyPatience;
  while (std::chrono::steady_clock::now() < until) {
    {
      const std::unique_lock alone(common_);
      std::error_code ignored;
      if (!fs::is_empty(directory_ / "tasks", ignored)) return;
      launcher_->remove_common();
      if (cgroups_.remove_root()) return;
    }
    std::this_thread::sleep_for(kEmptyStep);
  }
}

}  // namespace hob::sandbox
