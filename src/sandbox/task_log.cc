#include "sandbox/task_log.h"

#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

namespace hob::sandbox {

namespace {
ino_t inode_of(const std::filesystem::path& path) {
  struct stat info{};
  return ::stat(path.c_str(), &info) == 0 ? info.st_ino : 0;
}
}  // namespace

Result<void> TaskLog::make() { return make_directories(directory_, 0700); }

void TaskLog::rotate() {
  const std::filesystem::path kept = directory_ / "log.kept";
  const ino_t now = inode_of(path());
  if (now == 0 || now == inode_of(kept)) return;
  if (inode_of(kept) != 0) std::rename(kept.c_str(), (directory_ / "log.1").c_str());
  // Fails when the monitor replaces the file once more right now; its event is on the way.
  if (::link(path().c_str(), kept.c_str()) != 0) return;
}

Result<Fd> TaskLog::watch() const {
  Fd watcher(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!watcher) return fail_errno(errno, "watching a task's log");
  if (::inotify_add_watch(watcher.get(), directory_.c_str(), IN_MOVED_TO | IN_ONLYDIR) < 0) {
    return fail_errno(errno, "watching " + directory_.string());
  }
  return watcher;
}

}  // namespace hob::sandbox
