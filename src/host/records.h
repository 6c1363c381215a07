// What the agent keeps on its own disk: one file a task, so that an agent that restarts goes on
// where it was.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "host/decide.h"

namespace hob::host {

// A place in a task's output: `position` bytes since its beginning, rotated files included, which
// is `offset` in `file`.
struct LogPosition {
  int64_t position = 0;
  int64_t file = 0;  // which of the files it was (log_reader.cc); 0: the one that is there now
  int64_t offset = 0;
  bool operator==(const LogPosition&) const = default;
};

struct SavedTask {
  link::Assignment assignment{};
  TaskState state{};
  link::Health health = link::Health::kUnknown;
  LogPosition log_acked{};  // control has stored all before it
  LogPosition log_sent{};   // where the batch ends that control has or has not: it is repeated with
                            // the same end
};

std::string encode(const SavedTask& task);
Result<SavedTask> decode_saved_task(std::string_view json);

}  // namespace hob::host
