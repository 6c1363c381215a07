// The drivers' launchers, for the factories of sandbox.h. Private to this room.
#pragma once

#include <memory>

#include "sandbox/task_files.h"

namespace hob::sandbox {

// kNotFound: a program that it needs is not installed.
Result<std::unique_ptr<Launcher>> make_container_launcher(ContainerOptions options,
                                                          const Cgroups& cgroups);
Result<std::unique_ptr<Launcher>> make_microvm_launcher(MicrovmOptions options,
                                                        const Cgroups& cgroups);

}  // namespace hob::sandbox
