// hob-monitor (main.cc), which holds a task's output and its exit status, and the runtime that it
// starts the task by. Blocking; private to this room.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "sandbox/limits.h"

namespace hob::sandbox {

struct MonitorPlan {
  std::string task{};
  std::filesystem::path monitor{};     // the program
  std::vector<std::string> runtime{};  // its command line: it writes MonitorFiles::container_pid
  std::filesystem::path bundle{};      // pids and exit status are written there
  std::filesystem::path log{};
  Duration patience = kRuntimeTimeout;  // for the start
};

// What a monitor leaves in its task's bundle.
struct MonitorFiles {
  std::filesystem::path monitor_pid{};
  std::filesystem::path container_pid{};
  std::filesystem::path exit_directory{};
  std::filesystem::path exit_status{};
};
MonitorFiles monitor_files(const std::filesystem::path& bundle, const std::string& task);

// Where a program that belongs to this one is: beside it, or where either is installed. kNotFound:
// nowhere.
Result<std::filesystem::path> find_own_program(const std::string& name);
// Starts a monitor from the calling thread, whose mount namespace it keeps, and through it the
// container; returns the monitor's process id when the container's process has executed its
// program. kInvalid: what the runtime refused about the image or the task, in its words. A failure
// may leave processes and files.
Result<pid_t> run_container(const MonitorPlan& plan);

// The number in such a file; nullopt: none (yet).
std::optional<int> read_number(const std::filesystem::path& file);

// A process of this host whose command line names `path`: monitor and crun of a bundle.
std::vector<pid_t> processes_naming(const std::filesystem::path& path);
// A handle on `process`, if its command line names `path` (numbers are used again); else none.
Fd open_process(pid_t process, const std::filesystem::path& path);

}  // namespace hob::sandbox
