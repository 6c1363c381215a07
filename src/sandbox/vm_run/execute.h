// hob-vm-run exec: a command in the first container of a microVM that runs, as crun's exec.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace hob::sandbox {

struct ExecutePlan {
  std::string bundle{};
  bool terminal = false;  // a terminal in the guest, as large as ours; ours passes each key
  std::vector<std::string> words{};
};

// Standard input, output and errors are the command's. Answers its exit code when it has ended and
// all it printed was passed on. kNotFound: there is no machine. kInvalid: what the guest says of
// the order. Blocking; once in a process, which it is alone in.
Result<int> execute_in_machine(const ExecutePlan& plan);

}  // namespace hob::sandbox
