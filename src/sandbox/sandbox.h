// The sandbox contract: runs one task's container, isolated, so that it outlives the process that started it.
//
// Drivers: container (crun under conmon) and, later, microVM. Both pass sandbox/sandbox_suite.h. Belongs to the host
// agent's loop; blocking work runs on the pool.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/async.h"
#include "base/result.h"
#include "image/image_store.h"

namespace hob::sandbox {

// Everything needed to run it; the host agent has resolved names and images.
struct TaskSpec {
  std::string task{};     // 32 hex
  image::LocalImage image{};
  std::vector<std::string> entry_point{};  // empty: the image's; then `command` is the image's too unless given
  std::vector<std::string> command{};
  std::map<std::string, std::string> environment{};  // over the image's
  int cpu = 1024;                                    // 1/1024 vCPU, a quota
  int memory_mib = 2048;                             // a limit, swap included
  int storage_mib = 3072;                            // of the writable layer, a limit
  int processes_max = 4096;
  std::filesystem::path network_namespace{};         // handle made by network::Vpc::attach
  std::string address{};                             // for /etc/hosts
  std::string name_server{};                         // for /etc/resolv.conf
  std::string host_name{};                           // "ip-198-18-0-17"
};

struct TaskExit {
  int exit_code = 0;          // 128 + signal when killed
  bool out_of_memory = false;
};

class Sandbox {
 public:
  virtual ~Sandbox() = default;
  // Prepares the driver: cgroup root, directories. Call first.
  virtual Async<Result<void>> open() = 0;
  // Runs the container; returns when its process was started (exec'd). A failure leaves nothing behind. Errors are
  // ready for "CannotStartContainerError: …": kInvalid: no such program, user or directory in the image.
  virtual Async<Result<void>> start(TaskSpec spec) = 0;
  // Waits for the end of a started or adopted task. Cancelled: loses nothing, may be called again.
  virtual Async<Result<TaskExit>> wait(std::string task) = 0;
  virtual Async<Result<void>> signal(std::string task, int number) = 0;
  // Kills what still runs, unmounts and removes all of it but its log. Idempotent.
  virtual Async<Result<void>> remove(std::string task) = 0;
  // Tasks of this instance found running or ended but not removed, started by an earlier process; wait() works on
  // them, an exit that happened meanwhile included.
  virtual Async<Result<std::vector<std::string>>> adopt() = 0;
  // Where its output is written: lines "2026-11-23T22:11:49.123456789+00:00 stdout F text" (the CRI log format),
  // bounded by rotation (log, log.1). Survives remove().
  virtual std::filesystem::path log_path(const std::string& task) const = 0;
};

struct ContainerOptions {
  std::filesystem::path directory{};  // bundles, scratch disks, logs, state: all under here
  std::string instance{};             // 6 hex, names the cgroup root "hob-<instance>"
};
// The crun driver. The pool must outlive it.
std::unique_ptr<Sandbox> make_container_sandbox(ContainerOptions options, const Executor& executor, BlockingPool& pool);

}  // namespace hob::sandbox
