// A task's log files: the monitor writes "log" and, when it is full, puts an empty one in its place
// and forgets the old. We keep a second name on it, so that the old one becomes "log.1" instead.
// Any thread; short.
#pragma once

#include <filesystem>

#include "base/file.h"
#include "base/result.h"

namespace hob::sandbox {

class TaskLog {
 public:
  // `directory` is the task's own.
  explicit TaskLog(std::filesystem::path directory) : directory_(std::move(directory)) {}
  Result<void> make();
  std::filesystem::path path() const { return directory_ / "log"; }
  // If the monitor has begun a new file since the last call: the one before becomes log.1.
  // Idempotent, also after a crash.
  void rotate();
  // An inotify descriptor that is readable after each change of files; read it empty, then
  // rotate().
  Result<Fd> watch() const;

 private:
  std::filesystem::path directory_;
};

}  // namespace hob::sandbox
