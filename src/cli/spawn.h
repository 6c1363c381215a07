// Starts one daemon as the supervisor's child: with the descriptors it is given, as a user of its
// own, in a network namespace, gone when the supervisor is.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/result.h"

namespace hob::cli {

struct DaemonCommand {
  std::vector<std::string> argv{};  // argv[0] is a path
  // What is executed: argv[0] as it was when this was opened (O_PATH), whatever is there now.
  std::shared_ptr<const Fd> program{};
  std::vector<std::pair<int, int>>
      fds{};      // (ours, the child's number, 2 or above); all else is closed
  uid_t uid = 0;  // not 0: every capability and group is given up
  std::filesystem::path
      network_namespace{};  // a handle to enter before giving up root; empty: ours
};

struct Child {
  pid_t pid = -1;
  Fd pidfd{};  // readable when it has ended; the caller reaps it (waitid)
};

// kNotFound: there is no file at `path`.
Result<std::shared_ptr<const Fd>> open_program(const std::string& path);

// Returns once the program has been exec'd. kUnavailable: what could not be done, and why.
// The child gets SIGKILL when the calling thread ends: call it from the main thread.
Result<Child> spawn_daemon(const DaemonCommand& command);

}  // namespace hob::cli
