// A supervisor upgrades itself by executing the new `hob` in its own place: the process stays, with
// its children, listening sockets and lock; what it knew is handed over in a file in memory.
//
// The new program is tried first, on the very state (`hob up --resume-check`): one that does not
// start, or does not understand it, changes nothing. One that then fails while it takes over
// executes the one before it again. Killed at any moment: the lock is free, the daemons are gone
// with the process (spawn.h), and tasks run on until the next `hob up`.
#pragma once

#include <string>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "cli/supervisor_state.h"

namespace hob::cli {

// The three that Supervisor hears, held back from before the exec until its successor hears them.
void block_signals();
void unblock_signals();

// The file that this program was started from, as it is now. kUnavailable: /proc is not mounted.
Result<std::string> own_path();

// Reads to the end of it. kInvalid, kCorrupt: decode_supervisor_state()'s.
Result<SupervisorState> read_state(int fd);
// The same, for a trial: what it prints, by which its supervisor knows that this is a hob, and one
// that understood what it was told.
Result<std::string> try_state(int fd);

// What a supervisor is executed with.
struct Resumption {
  bool check = false;    // stdin has a state: could this program take over?
  int state_fd = -1;     // -1: it is not
  int previous_fd = -1;  // the program that did it; -1: that one is here again
  std::string error{};   // then: why
};

// Becomes `program` (O_PATH), which is told `state` and keeps its descriptors. `path`: argv[0];
// `data`: the instance's directory. Returns only if it could not, as before.
Error execute(int program, const std::string& path, const std::string& data,
              const SupervisorState& state);
// Becomes the program that executed this one, with what that one told. `state`: its descriptors
// are meant to be closed meanwhile; nullptr: nothing was done with it. Returns only if it could
// not.
Error execute_previous(const Resumption& resumption, const std::string& data,
                       const SupervisorState* state, const std::string& why);

}  // namespace hob::cli
