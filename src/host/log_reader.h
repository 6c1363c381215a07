// Reads a task's output from where it was left, over the rotation of its file. Blocking: used on
// the pool.
//
// Rotation renames `log` to `log.1`; what was in an older `log.1` and was not read by then is lost.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "base/result.h"
#include "host/records.h"
#include "link/messages.h"

namespace hob::host {

inline constexpr size_t kBatchBytesMax = 256 * 1024;  // of the file, for one batch
inline constexpr size_t kBatchLinesMax = 2'000;

struct ReadLines {
  std::vector<link::LogLine> lines{};
  LogPosition next{};  // where to go on; the same as `from`: there is no more now
};

// At most one batch of whole lines from `from` on, and none that ends after the position `until`.
Result<ReadLines> read_lines(const std::filesystem::path& log, LogPosition from,
                             int64_t until = INT64_MAX);

}  // namespace hob::host
