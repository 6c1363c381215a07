// conmon, which holds a container's output and its exit status, and crun, which makes it. Blocking;
// private to this room.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/result.h"

namespace hob::sandbox {

struct MonitorPlan {
  std::string task{};
  std::filesystem::path crun{};        // the program
  std::filesystem::path crun_state{};  // its directory
  std::filesystem::path
      bundle{};  // with config.json; pid, exit status and sockets are written there
  std::filesystem::path log{};
};

// What a monitor leaves in its task's bundle.
struct MonitorFiles {
  std::filesystem::path monitor_pid{};
  std::filesystem::path container_pid{};
  std::filesystem::path exit_directory{};
  std::filesystem::path exit_status{};
};
MonitorFiles monitor_files(const std::filesystem::path& bundle, const std::string& task);

// Starts conmon from the calling thread, whose mount namespace it keeps, and through it creates the
// container; its process waits until run_container(). Answers conmon's process id. kInvalid: what
// crun refused about the image or the task, in its words. A failure may leave processes and files.
Result<pid_t> create_container(const MonitorPlan& plan);
// Lets the created container execute its program. From the same thread.
Result<void> run_container(const MonitorPlan& plan);

// The number in such a file; nullopt: none (yet).
std::optional<int> read_number(const std::filesystem::path& file);

// A process of this host whose command line names `path`: conmon and crun of a bundle.
std::vector<pid_t> processes_naming(const std::filesystem::path& path);
// A handle on `process`, if its command line names `path` (numbers are used again); else none.
Fd open_process(pid_t process, const std::filesystem::path& path);

}  // namespace hob::sandbox
