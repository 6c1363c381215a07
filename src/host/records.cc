#include "host/records.h"

#include "base/record.h"

namespace hob::host {

BOOST_DESCRIBE_STRUCT(TaskRun, (), (started_at, stopped_at))
BOOST_DESCRIBE_STRUCT(TaskState, (),
                      (was_healthy, restarts, image_digest, runs, pull_started_at, pull_stopped_at,
                       started_at, stopped_at, stop_sent_at, exit_code, out_of_memory, stop_code,
                       reason, last_lines, permanent))
BOOST_DESCRIBE_STRUCT(LogPosition, (), (position, file, offset))
BOOST_DESCRIBE_STRUCT(SavedTask, (), (assignment, state, health, log_acked, log_sent))

std::string encode(const SavedTask& task) { return record::encode(task); }
Result<SavedTask> decode_saved_task(std::string_view json) {
  return record::decode<SavedTask>(json);
}

}  // namespace hob::host
