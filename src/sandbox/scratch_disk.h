// Scratch disks: the writable layer of a task is an ext4 of its own in a sparse file, so that its
// size is a limit. Filling it is ENOSPC inside and costs nobody else anything; on the host it takes
// what was really written.
//
// The file is copied from a template made once per size (mkfs takes 30 ms, the copy of its 150 kB a
// few), attached to a loop device that clears itself, and unlinked at once: whatever is killed, the
// space comes back with the last mount. Blocking; any thread.
#pragma once

#include <filesystem>
#include <string>

#include "base/file.h"
#include "base/result.h"

namespace hob::sandbox {

class ScratchDisks {
 public:
  // `directory` is made if missing and emptied of leftovers by open().
  explicit ScratchDisks(std::filesystem::path directory) : directory_(std::move(directory)) {}
  Result<void> open();

  // A mounted, detached ext4 of that size (kScratchMibMin..kScratchMibMax), empty but for
  // lost+found: attach it with move_mount(2), or close it and it is gone. `name` is unique among
  // the disks being made now.
  Result<Fd> make(const std::string& name, int mib);

  // The disk as a file, for a microVM, which mounts it itself. Replaces `path`.
  Result<void> make_file(const std::filesystem::path& path, int mib);

 private:
  Result<Fd> copy(const std::filesystem::path& path, int mib);
  Result<std::filesystem::path> template_of(int mib);
  std::filesystem::path directory_;
};

}  // namespace hob::sandbox
