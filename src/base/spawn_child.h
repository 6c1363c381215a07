// Starting a child with the descriptors it is to have and no others; for those who pump its pipes
// themselves. Everybody else: process.h.
#pragma once

#include <sys/types.h>

#include "base/process.h"

namespace hob {

struct StandardFds {
  int input = -1;
  int output = -1;
  int errors = -1;
};

// Starts it in a process group of its own, with signals as by default; `command.input` is not used.
// The caller waits for it. kNotFound: no such program.
Result<pid_t> spawn_child(const Command& command, StandardFds standard);

}  // namespace hob
