// Looks into a task's root file system without being led out of it: links, absolute or with "..",
// end at its root, as they will for the task itself. Its content is not trusted. Blocking; any
// thread.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>

#include "base/file.h"
#include "base/result.h"

namespace hob::guest {

class TaskRoot {
 public:
  static Result<TaskRoot> open(const std::filesystem::path& root);

  // A regular file's first `bytes_max` bytes; empty: there is none.
  std::string read(const std::string& path, size_t bytes_max) const;
  // mkdir -p; what is made belongs to `owner`. kInvalid: something on the way is no directory, or
  // the path is relative.
  Result<void> make_directories(const std::string& path, uid_t owner) const;
  // Can `program` be run: as a path (relative to `directory`), or, without a slash, found in
  // `search_path`? kInvalid in Docker's words: not found, not executable, or of another
  // architecture.
  Result<void> check_program(const std::string& program, const std::string& search_path,
                             const std::string& directory) const;

 private:
  explicit TaskRoot(Fd root) : root_(std::move(root)) {}
  Fd open_inside(const std::string& path, int flags) const;
  Fd root_;
};

}  // namespace hob::guest
