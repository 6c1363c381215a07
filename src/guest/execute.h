// A command that somebody has executed in a running container (ECS Exec), with or without a
// terminal.
#pragma once

#include <sys/types.h>

#include "base/file.h"
#include "guest/frame.h"
#include "guest/program.h"

namespace hob::guest {

// Forks a process that carries input, output, window sizes and signals between the connection and
// the command, and reports its end there; the connection is that process's from here on. Answers
// its process id, or -1.
pid_t execute_in(const Prepared& container, pid_t first_process, const Execute& command,
                 Fd connection, FrameReader reader);

// Runs a health check's command in the container, its output thrown away; ends with 0 if it is
// well. Leads a process group, to be killed by. -1: it could not be made.
pid_t check_health_in(const Prepared& container, pid_t first_process,
                      const std::vector<std::string>& command);

}  // namespace hob::guest
