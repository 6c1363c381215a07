// Child processes, waited for by pidfd.
#pragma once

#include <sys/types.h>

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/async.h"
#include "base/file.h"
#include "base/result.h"

namespace hob {

inline constexpr size_t kOutputBytesMax = 1024 * 1024;  // kept of a command's output; the rest is read and dropped

struct Command {
  std::vector<std::string> argv{};  // argv[0] is looked up in PATH
  std::optional<std::map<std::string, std::string>> environment{};  // nullopt: ours
  std::string directory{};                                           // empty: ours
  std::string input{};                                               // given on stdin
  std::vector<std::pair<int, int>> fds{};  // (ours, the child's number); all else is closed
};

struct Exit {
  int status = 0;  // the exit code, or 128 + signal
  std::string output{};
  std::string errors{};
};

// Runs to the end. kTimeout: killed after `timeout`. kNotFound: no such program. A non-zero status is no error.
// Cancelled: kills the child.
Async<Result<Exit>> run(Command command, Duration timeout);
// The same from a thread that may block.
Result<Exit> run_blocking(const Command& command, Duration timeout);
// Like run(), but a non-zero status is kUnavailable with the last lines of what it printed.
Async<Result<std::string>> run_ok(Command command, Duration timeout);

}  // namespace hob
