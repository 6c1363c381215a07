// What a task runs, from what its image says and what the task says over it. Pure.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/result.h"
#include "image/image_store.h"
#include "sandbox/sandbox.h"

namespace hob::sandbox {

// Where programs are looked for when neither image nor task says: Docker's.
inline constexpr const char* kDefaultPath =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

// As Docker and ECS merge: the task's entry point replaces the image's and with it the image's
// command; the task's command replaces the image's. kInvalid: nothing to run, a NUL byte, or beyond
// kArgumentsMax, kArgumentBytesMax.
Result<std::vector<std::string>> merge_command(const TaskSpec& spec);

// The image's variables, the task's over them, and PATH, HOSTNAME and HOME where neither sets them.
// Sorted "K=V". kInvalid: a name with "=" or NUL, or beyond the limits.
Result<std::vector<std::string>> merge_environment(const TaskSpec& spec, const std::string& home);

// The value of a variable in such a list; empty: none.
std::string variable(const std::vector<std::string>& environment, const std::string& name);

}  // namespace hob::sandbox
