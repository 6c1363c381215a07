// What a container's process may do: Docker's default capabilities, and no system calls that Docker
// refuses.
#pragma once

#include "base/result.h"
#include "guest/image_user.h"

namespace hob::guest {

// The last steps before a program is executed, in the container's process: capabilities, system
// calls, groups and user. The kernel that this protects is the microVM's own.
Result<void> confine(const ImageUser& user);

}  // namespace hob::guest
