// What the container driver keeps of each task on disk, and the steps from a task's specification
// to a running container and back to nothing. Blocking: for the pool. Different tasks may be worked
// on at the same time.
//
// A task has a bundle under tasks/ from the first step of start() to the last of remove(). The file
// "running" in it says that it was started whole; a bundle without it is a leftover of a killed
// agent, which open() removes. All else of a task (mounts, loop device, scratch file) lives in its
// monitor's mount namespace and needs no clearing up.
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
#include "sandbox/id_ranges.h"
#include "sandbox/monitor.h"
#include "sandbox/sandbox.h"
#include "sandbox/scratch_disk.h"
#include "sandbox/task_log.h"

namespace hob::sandbox {

class ContainerFiles {
 public:
  static Result<std::unique_ptr<ContainerFiles>> open(ContainerOptions options);

  Result<void> start(const TaskSpec& spec);
  Result<void> remove(const std::string& task);
  Result<void> signal(const std::string& task, int number) const;
  // A handle that becomes readable when the task has ended; none: it has.
  Result<Fd> open_monitor(const std::string& task) const;
  // Of a task whose monitor has ended.
  Result<TaskExit> exit_of(const std::string& task) const;
  // kUnavailable: this host cannot freeze.
  Result<std::shared_ptr<Freezer>> freezer(const std::string& task) const;
  // Those started whole and not removed.
  std::vector<std::string> tasks() const;
  TaskLog log(const std::string& task) const { return TaskLog(options_.directory / "logs" / task); }

 private:
  ContainerFiles(ContainerOptions options, Cgroups cgroups);
  Result<void> clear_leftovers();
  // What an instance without tasks need not have: its cgroups, its directory in /run.
  void remove_if_empty();
  // On a thread of its own, which leaves the machine's mounts.
  Result<void> start_here(const TaskSpec& spec);
  void wait_for_monitor(const std::string& task) const;
  Result<void> end_monitor(const std::string& task) const;
  std::filesystem::path bundle(const std::string& task) const {
    return options_.directory / "tasks" / task;
  }
  std::filesystem::path crun_state() const { return options_.run_directory / "crun"; }
  std::filesystem::path mount_point() const { return options_.run_directory / "task"; }
  bool was_started(const std::string& task) const;

  ContainerOptions options_;
  Cgroups cgroups_;
  IdRanges ids_;
  ScratchDisks disks_;
  std::filesystem::path crun_;
  std::filesystem::path monitor_;
  int64_t open_files_max_ = 0;
  // Shared by starts; held alone to take away what they share.
  std::shared_mutex common_;
};

bool is_task_id(const std::string& text);

}  // namespace hob::sandbox
