#include "sandbox/cgroups.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <thread>

#include "base/file.h"
#include "base/log.h"
#include "sandbox/freezer.h"
#include "sandbox/limits.h"

namespace hob::sandbox {

namespace {

namespace fs = std::filesystem;

constexpr const char* kRoot = "/sys/fs/cgroup";
constexpr const char* kMonitors = "monitors";
constexpr size_t kControlFileBytesMax =
    4 * 1024 * 1024;  // cgroup.procs with as many processes as a host can have
constexpr const char* kHandedDown = "cgroup.subtree_control";
constexpr const char* kHands = "+cpu +memory +pids";
constexpr int64_t kCpuPeriodMicroseconds = 100'000;
constexpr int64_t kCpuQuotaMicrosecondsMin = 1'000;  // the kernel's
constexpr int64_t kCpuUnitsPerCpu = 1'024;
constexpr Duration kKillStep = std::chrono::milliseconds(2);

bool is_of_type(const fs::path& path, unsigned long type) {
  struct statfs info {};
  return ::statfs(path.c_str(), &info) == 0 && static_cast<unsigned long>(info.f_type) == type;
}

// Control files are written in place: a temporary beside them cannot be made.
Result<void> write_control(const fs::path& path, std::string_view value) {
  const Fd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file) return fail_errno(errno, "opening " + path.string());
  if (::write(file.get(), value.data(), value.size()) < 0)
    return fail_errno(errno, "writing " + path.string());
  return {};
}

// "oom_kill 3" on a line of its own.
int64_t counter_in(const std::string& text, std::string_view name) {
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view line = std::string_view(text).substr(at, end - at);
    if (line.size() > name.size() && line.starts_with(name) && line[name.size()] == ' ') {
      int64_t value = 0;
      std::from_chars(line.data() + name.size() + 1, line.data() + line.size(), value);
      return value;
    }
    at = end + 1;
  }
  return 0;
}

}  // namespace

Result<Cgroups> Cgroups::detect(const std::string& instance) {
  Cgroups cgroups;
  cgroups.root_ = "hob-" + instance;
  if (is_of_type(kRoot, CGROUP2_SUPER_MAGIC)) {
    cgroups.version_ = CgroupVersion::kV2;
    cgroups.hierarchies_ = cgroups.monitor_trees_ = {kRoot};
    cgroups.processes_ = kRoot;
    // The root has no limits of its own that would show it; systemd's slices below it have.
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(kRoot, ignored)) {
      if (fs::exists(entry.path() / "memory.swap.max", ignored)) cgroups.accounts_swap_ = true;
    }
    return cgroups;
  }
  cgroups.version_ = CgroupVersion::kV1;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(kRoot, error)) {
    const fs::path path = entry.path();
    if (entry.is_symlink()) continue;  // "cpu" -> "cpu,cpuacct" where they share a mount
    if (is_of_type(path, CGROUP_SUPER_MAGIC)) cgroups.hierarchies_.push_back(path);
    if (is_of_type(path, CGROUP2_SUPER_MAGIC)) cgroups.hybrid_tree_ = path;
    if (path.filename() == "systemd" || path == cgroups.hybrid_tree_)
      cgroups.monitor_trees_.push_back(path);
    if (path.filename() == "pids") cgroups.processes_ = path;
  }
  cgroups.accounts_swap_ = fs::exists(fs::path(kRoot) / "memory/memory.memsw.limit_in_bytes");
  if (cgroups.processes_.empty()) {
    return fail(Code::kUnavailable,
                "{} has neither cgroup version 2 nor version 1 with the pids controller", kRoot);
  }
  return cgroups;
}

Result<std::vector<fs::path>> Cgroups::make(const std::string& task, int cpu,
                                            int memory_mib) const {
  const int64_t quota =
      std::max(kCpuQuotaMicrosecondsMin, cpu * kCpuPeriodMicroseconds / kCpuUnitsPerCpu);
  const std::string memory = std::to_string(int64_t{memory_mib} << 20);
  std::vector<fs::path> files;
  for (const fs::path& hierarchy : hierarchies_) {
    const fs::path own = hierarchy / root_ / task;
    if (version_ == CgroupVersion::kV2) HOB_CHECK(write_control(hierarchy / kHandedDown, kHands));
    std::error_code error;
    fs::create_directories(own.parent_path(), error);
    if (version_ == CgroupVersion::kV2)
      HOB_CHECK(write_control(own.parent_path() / kHandedDown, kHands));
    fs::create_directory(own, error);
    if (error) return fail(Code::kUnavailable, "making {}: {}", own.string(), error.message());
    const auto set = [&](const char* name, const std::string& value) -> Result<void> {
      return fs::exists(own / name, error) ? write_control(own / name, value) : Result<void>();
    };
    HOB_CHECK(set("memory.max", memory));
    HOB_CHECK(set("memory.swap.max", "0"));
    HOB_CHECK(set("memory.limit_in_bytes", memory));
    HOB_CHECK(set("cpu.max", fmt::format("{} {}", quota, kCpuPeriodMicroseconds)));
    HOB_CHECK(set("cpu.cfs_period_us", std::to_string(kCpuPeriodMicroseconds)));
    HOB_CHECK(set("cpu.cfs_quota_us", std::to_string(quota)));
    // Version 1's takes nobody in before it is told which CPUs and memory it has.
    if (fs::exists(own / "cpuset.cpus", error) && version_ == CgroupVersion::kV1) continue;
    files.push_back(own / "cgroup.procs");
  }
  return files;
}

std::vector<pid_t> Cgroups::processes(const std::string& task) const {
  std::vector<pid_t> found;
  const auto text = read_file(processes_ / root_ / task / "cgroup.procs", kControlFileBytesMax);
  if (!text) return found;
  const char* at = text->data();
  const char* const end = at + text->size();
  while (at < end) {
    pid_t process = 0;
    const auto [next, error] = std::from_chars(at, end, process);
    if (error != std::errc()) break;
    found.push_back(process);
    at = std::min(next + 1, end);
  }
  return found;
}

bool Cgroups::contains(const std::string& task, pid_t process) const {
  const std::vector<pid_t> all = processes(task);
  return std::ranges::find(all, process) != all.end();
}

bool Cgroups::was_out_of_memory(const std::string& task) const {
  const bool v2 = version_ == CgroupVersion::kV2;
  const fs::path file = v2 ? fs::path(kRoot) / root_ / task / "memory.events"
                           : fs::path(kRoot) / "memory" / root_ / task / "memory.oom_control";
  const auto text = read_file(file, kControlFileBytesMax);
  return text && counter_in(*text, "oom_kill") > 0;
}

Result<fs::path> Cgroups::freezer_of(const std::string& task) const {
  if (version_ == CgroupVersion::kV2) return fs::path(kRoot) / root_ / task;
  const fs::path controller = fs::path(kRoot) / "freezer";
  if (std::ranges::find(hierarchies_, controller) == hierarchies_.end())
    return fail(Code::kUnavailable, "this host's cgroups have no freezer controller");
  return controller / root_ / task;
}

Result<void> Cgroups::kill_all(const std::string& task) const {
  const auto until = std::chrono::steady_clock::now() + kKillTimeout;
  while (true) {
    // Version 2 kills without a race against fork; on version 1 the loop wins because the number of
    // processes is limited and the first of a task takes the others of its process namespace with
    // it.
    if (version_ == CgroupVersion::kV2) {
      if (auto killed = write_control(fs::path(kRoot) / root_ / task / "cgroup.kill", "1");
          !killed) {
        if (killed.error().code == Code::kNotFound && processes(task).empty()) return {};
      }
    }
    const std::vector<pid_t> left = processes(task);
    if (left.empty()) return {};
    for (const pid_t process : left) ::kill(process, SIGKILL);
    // On version 1 what is frozen does not even die.
    if (const auto frozen_at = freezer_of(task); frozen_at) {
      if (const Result<void> thawed = Freezer(version_, *frozen_at).thaw(); !thawed)
        log::warn("a task is not thawed", {{"task", task}, {"error", thawed.error().message}});
    }
    if (std::chrono::steady_clock::now() > until) {
      return fail(Code::kTimeout, "{} processes of task {} outlived SIGKILL for {} ms", left.size(),
                  task, kKillTimeout.count());
    }
    std::this_thread::sleep_for(kKillStep);
  }
}

Result<void> Cgroups::remove(const std::string& task) const {
  const auto until = std::chrono::steady_clock::now() + kKillTimeout;
  for (const fs::path& hierarchy : hierarchies_) {
    const fs::path path = hierarchy / root_ / task;
    // A task may have made cgroups below its own where it could; deepest first.
    std::error_code ignored;
    std::vector<fs::path> below;
    for (auto entry = fs::recursive_directory_iterator(path, ignored);
         entry != fs::recursive_directory_iterator(); entry.increment(ignored)) {
      if (entry->is_directory(ignored)) below.push_back(entry->path());
    }
    std::ranges::reverse(below);
    for (const fs::path& inner : below) ::rmdir(inner.c_str());
    // Busy for a moment after the last process's end.
    while (::rmdir(path.c_str()) != 0) {
      if (errno == ENOENT) break;
      if (errno != EBUSY || std::chrono::steady_clock::now() > until) {
        return fail_errno(errno, "removing " + path.string());
      }
      std::this_thread::sleep_for(kKillStep);
    }
  }
  return {};
}

void Cgroups::adopt_monitor(pid_t process) const {
  std::error_code absent;
  if (!fs::exists("/run/systemd/system", absent)) return;
  for (const fs::path& tree : monitor_trees_) {
    const fs::path path = tree / root_ / kMonitors;
    std::error_code ignored;
    fs::create_directories(path, ignored);
    // Where it cannot be done (a container's read-only tree) the monitor stays with us, which only
    // matters to systemd.
    if (auto moved = write_control(path / "cgroup.procs", std::to_string(process)); !moved)
      continue;
  }
}

bool is_kernel_thread(std::string_view stat) {
  constexpr unsigned kKernelThread = 0x0020'0000;  // PF_KTHREAD
  constexpr int kFlags = 7;  // the flags are the seventh field after the name in parentheses
  size_t at = stat.rfind(')');
  for (int field = 0; field < kFlags && at != std::string_view::npos; ++field)
    at = stat.find(' ', at + 1);
  if (at == std::string_view::npos) return false;
  unsigned flags = 0;
  std::from_chars(stat.data() + at + 1, stat.data() + stat.size(), flags);
  return (flags & kKernelThread) != 0;
}

Result<void> Cgroups::part_kernel_threads(const std::string& task) const {
  if (version_ == CgroupVersion::kV1) return {};  // its freezer leaves them out
  for (const pid_t process : processes(task)) {
    // 0: one of a process namespace above ours. One that has ended has no file.
    const auto stat = read_file(fmt::format("/proc/{}/stat", process), kControlFileBytesMax);
    if (process <= 0 || !stat || !is_kernel_thread(*stat)) continue;
    const fs::path path = fs::path(kRoot) / root_ / kMonitors;
    HOB_CHECK(make_directories(path, 0755));
    HOB_CHECK(write_control(path / "cgroup.procs", std::to_string(process)));
  }
  return {};
}

bool Cgroups::remove_root() const {
  bool gone = true;
  for (const std::vector<fs::path>* trees : {&monitor_trees_, &hierarchies_}) {
    for (const fs::path& tree : *trees) {
      ::rmdir((tree / root_ / kMonitors).c_str());
      if (::rmdir((tree / root_).c_str()) != 0 && errno != ENOENT) gone = false;
    }
  }
  return gone;
}

std::vector<std::string> Cgroups::tasks() const {
  std::vector<std::string> found;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(processes_ / root_, ignored)) {
    const std::string name = entry.path().filename().string();
    if (entry.is_directory(ignored) && name != kMonitors) found.push_back(name);
  }
  return found;
}

}  // namespace hob::sandbox
