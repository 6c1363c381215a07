// What of a task belongs on the loop, for every driver whose tasks run below a monitor. The work
// itself is in task_files.cc and the driver's launcher.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>

#include "sandbox/sandbox.h"
#include "sandbox/task_files.h"

namespace hob::sandbox {

using OpenTaskFiles = std::function<Result<std::unique_ptr<TaskFiles>>()>;
// `directory`: the same as the files'. `open_files` is called on the pool. The pool must outlive
// it.
std::unique_ptr<Sandbox> make_monitored_sandbox(std::filesystem::path directory,
                                                OpenTaskFiles open_files, const Executor& executor,
                                                BlockingPool& pool);

}  // namespace hob::sandbox
