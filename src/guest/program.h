// Programs in a container: its own, and those that are executed in it later.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "guest/container_root.h"
#include "guest/image_user.h"
#include "guest/protocol.h"

namespace hob::guest {

// A container that can be started: what its image says has been looked up.
struct Prepared {
  int index = 0;
  ContainerRoot root{};
  ImageUser user{};
  std::vector<std::string> environment{};
  std::vector<std::string> arguments{};
  std::string working_directory = "/";
  std::string host_name{};
  int open_files_max = 0;
};

// Mounts the container's root and makes its cgroup. kInvalid, in Docker's words: no such user,
// program or directory in the image.
Result<Prepared> prepare(const Start& start, int index);

struct Launched {
  pid_t process = -1;
  Fd output{};  // to be read: its stdout
  Fd errors{};
};
// Executes the container's program as the first process of namespaces of its own. The result comes
// when it was executed.
Result<Launched> launch(const Prepared& container);

// In a process that has entered the container's namespaces: confines it and executes. Returns what
// failed.
Error execute_program(const Prepared& container, const std::vector<std::string>& arguments);
// Enters the namespaces and the cgroup of a running container. What is forked afterwards is in its
// process namespace, too.
Result<void> enter_container(const Prepared& container, pid_t first_process);
// Signals as a program expects them: none blocked, none ignored.
void reset_signals();

}  // namespace hob::guest
