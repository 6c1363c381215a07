// What the drivers keep of each task on disk, and the steps from a task's specification to a
// running one and back to nothing. Blocking: for the pool. Different tasks may be worked on at the
// same time.
//
// A task has a bundle under tasks/ from the first step of start() to the last of remove(). The file
// "running" in it says that it was started whole; a bundle without it is a leftover of a killed
// agent, which open() removes. A task runs below its hob-monitor; how it comes to do so is the
// driver's: a Launcher.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <shared_mutex>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "sandbox/cgroups.h"
#include "sandbox/freezer.h"
#include "sandbox/monitor.h"
#include "sandbox/sandbox.h"
#include "sandbox/task_log.h"

namespace hob::sandbox {

// How a driver makes a task: the part that is not the same for all. Blocking, any thread.
class Launcher {
 public:
  virtual ~Launcher() = default;
  // Before any start. `kept`: the tasks there are; what others held is free.
  virtual Result<void> open(const std::vector<std::string>& kept) = 0;
  // Everything before the monitor is started, on a thread that ends with the start: it may leave
  // the machine's mounts. What it made in the bundle goes with that. kInvalid: as Sandbox::start.
  virtual Result<MonitorPlan> prepare(const TaskSpec& spec,
                                      const std::filesystem::path& bundle) = 0;
  // To the first process of a task that was started whole; one that has ended is no error.
  virtual Result<void> signal(const std::string& task, const std::filesystem::path& bundle,
                              int number) const = 0;
  // It was frozen, and runs again.
  virtual void catch_up(const std::filesystem::path& bundle) const { static_cast<void>(bundle); }
  // Of a task that has ended otherwise than well.
  virtual bool was_out_of_memory(const std::string& task,
                                 const std::filesystem::path& bundle) const = 0;
  // Nothing of the task runs any more.
  virtual Result<void> release(const std::string& task) = 0;
  // There is no task left.
  virtual void remove_common() = 0;
};

class TaskFiles {
 public:
  // `launcher` uses the same cgroups.
  static Result<std::unique_ptr<TaskFiles>> open(std::filesystem::path directory,
                                                 const Cgroups& cgroups,
                                                 std::unique_ptr<Launcher> launcher);

  Result<void> start(const TaskSpec& spec);
  Result<void> remove(const std::string& task);
  Result<void> signal(const std::string& task, int number) const;
  void catch_up(const std::string& task) const;
  // A handle that becomes readable when the task has ended; none: it has.
  Result<Fd> open_monitor(const std::string& task) const;
  // Of a task whose monitor has ended.
  Result<TaskExit> exit_of(const std::string& task) const;
  // kUnavailable: this host cannot freeze.
  Result<std::shared_ptr<Freezer>> freezer(const std::string& task) const;
  // Those started whole and not removed.
  std::vector<std::string> tasks() const;
  TaskLog log(const std::string& task) const { return TaskLog(directory_ / "logs" / task); }

 private:
  TaskFiles(std::filesystem::path directory, const Cgroups& cgroups,
            std::unique_ptr<Launcher> launcher)
      : directory_(std::move(directory)), cgroups_(cgroups), launcher_(std::move(launcher)) {}
  Result<void> clear_leftovers();
  // What an instance without tasks need not have: its cgroups, its directory in /run.
  void remove_if_empty();
  Result<void> start_here(const TaskSpec& spec);
  void wait_for_monitor(const std::string& task) const;
  Result<void> end_monitor(const std::string& task) const;
  std::filesystem::path bundle(const std::string& task) const {
    return directory_ / "tasks" / task;
  }
  bool was_started(const std::string& task) const;

  std::filesystem::path directory_;
  Cgroups cgroups_;
  std::unique_ptr<Launcher> launcher_;
  // Shared by starts; held alone to take away what they share.
  std::shared_mutex common_;
};

bool is_task_id(const std::string& text);
// /etc/hosts and /etc/resolv.conf of a task.
std::string hosts_file(const TaskSpec& spec);
std::string resolv_file(const TaskSpec& spec);
// The one it was given, or one made of its id.
std::string host_name(const TaskSpec& spec);
Result<void> write_task_file(const std::filesystem::path& path, std::string_view content,
                             uid_t owner = 0);
// In the usual directories. kNotFound: it is not installed.
Result<std::filesystem::path> find_program(const std::string& name);
// RLIMIT_NOFILE of tasks here.
int64_t open_files_max();

}  // namespace hob::sandbox
