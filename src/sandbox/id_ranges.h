// Ranges of 65,536 user and group ids, one per running task of this machine, so that a task's root
// is nobody to the host and to every other task, of other instances too.
//
// A claim is a symbolic link named after the range in a directory that all instances share, to
// "<instance> <task>" (a link, because it is made with its content or not at all); it lasts through
// restarts of the agent and goes with the machine's (the directory is in /run). Any thread;
// blocking.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/result.h"

namespace hob::sandbox {

// From the part of the id space that systemd's list of ranges leaves unused (systemd.io/UIDS-GIDS),
// below 2^31, above which old programs take ids for negative.
inline constexpr uint32_t kIdRangeFirst = 1'879'048'192;
inline constexpr uint32_t kIdRangeCount = 4'094;

class IdRanges {
 public:
  IdRanges(std::filesystem::path shared_directory, std::string instance);
  // The first id of a range that is the task's from now on. kLimit: all are taken.
  Result<uint32_t> claim(const std::string& task);
  // Idempotent.
  Result<void> release(const std::string& task);
  // Releases this instance's claims for tasks other than these.
  Result<void> release_others(const std::vector<std::string>& tasks);

 private:
  Result<void> release_if(const auto& wanted);
  std::filesystem::path directory_;
  std::string instance_;
};

}  // namespace hob::sandbox
