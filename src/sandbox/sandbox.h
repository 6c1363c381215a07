// The sandbox contract: runs one task's container, isolated, so that it outlives the process that
// started it.
//
// Drivers: container (crun) and microVM (hob-vmm), both under hob-monitor. Both pass
// sandbox/sandbox_suite.h.
// Belongs to the host agent's loop; blocking work runs on the pool. Root only.
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

enum class Isolation { kDefault, kContainer, kMicrovm };

// Everything needed to run it; the host agent has resolved names and images.
struct TaskSpec {
  std::string task{};  // 32 hex
  image::LocalImage image{};
  std::vector<std::string>
      entry_point{};  // empty: the image's; then `command` is the image's too unless given
  std::vector<std::string> command{};
  std::map<std::string, std::string> environment{};  // over the image's
  int cpu = 1024;                                    // 1/1024 vCPU, a quota
  int memory_mib = 2048;                             // a limit, swap included
  int storage_mib = 3072;                            // of the writable layer, a limit
  int processes_max = 4096;
  std::filesystem::path network_namespace{};  // handle made by network::Vpc::attach
  std::string address{};                      // for /etc/hosts
  std::string name_server{};                  // for /etc/resolv.conf
  std::string host_name{};                    // "ip-198-18-0-17"
  Isolation isolation = Isolation::kDefault;  // for the driver that is both
};

struct TaskExit {
  int exit_code = 0;  // 128 + signal when killed; 137 also when the monitor that knew it was killed
  bool out_of_memory = false;
};

// One that an earlier process started.
struct AdoptedTask {
  std::string task{};
  bool frozen = false;
  bool operator==(const AdoptedTask&) const = default;
};

class Sandbox {
 public:
  virtual ~Sandbox() = default;
  // Prepares the driver: directories, what an earlier process left half-made (removed). Call first.
  virtual Async<Result<void>> open() = 0;
  // Runs the container; returns when its process was started (exec'd). A failure leaves nothing
  // behind but its log. Errors are ready for "CannotStartContainerError: …": kInvalid: no such
  // program, user or directory in the image, or a size the driver has no room for; kExists: the
  // task is here already, remove() it first.
  virtual Async<Result<void>> start(TaskSpec spec) = 0;
  // Waits for the end of a started or adopted task, and keeps its log rotated meanwhile: have one
  // pending for every running task. Cancelled: loses nothing, may be called again. kNotFound: no
  // such task.
  virtual Async<Result<TaskExit>> wait(std::string task) = 0;
  // Stops all processes of a task where they are: no CPU, no timers; memory and sockets are kept,
  // connections and bytes queue in the kernel. Returns when none runs, after milliseconds, at most
  // about a second. Idempotent; one that has ended is no error. After an error all of it runs.
  // kNotFound: no such task. kCancelled: thaw() or signal() was called meanwhile. kTimeout: a
  // process did not stand still. kUnavailable: this machine cannot. It stays frozen over the end of
  // the process that did it.
  virtual Async<Result<void>> freeze(std::string task) = 0;
  // Lets it go on: what was called last holds, a freeze() under way gives up. For a request that
  // waits: takes some tens of microseconds and waits for nobody. Idempotent; one that has ended is
  // no error. kNotFound: no such task.
  virtual Async<Result<void>> thaw(std::string task) = 0;
  // After thaw(), what no request has to wait for: a microVM is told what time it is, for its clock
  // ran by the machine's counters alone. Takes milliseconds, a second where the guest does not
  // answer. Nothing is missing without it but that.
  virtual Async<> catch_up(std::string task) {
    static_cast<void>(task);
    co_return;
  }
  // To the task's first process; a frozen task is thawed, to hear it. One that has ended is no
  // error. kNotFound: no such task.
  virtual Async<Result<void>> signal(std::string task, int number) = 0;
  // Kills what still runs, frozen or not, unmounts and removes all of it but its log. Idempotent.
  virtual Async<Result<void>> remove(std::string task) = 0;
  // Tasks of this instance found running or ended but not removed, started by an earlier process,
  // by name; wait() works on them, an exit that happened meanwhile included. One that the earlier
  // process was freezing when it was killed is frozen whole, or thawed where that cannot be done.
  virtual Async<Result<std::vector<AdoptedTask>>> adopt() = 0;
  // Where its output is written: lines "2026-11-23T22:11:49.123456789+00:00 stdout F text" (the CRI
  // log format; "P" marks a part of a long line). Bounded: at kLogBytesMax the file becomes log.1
  // beside it and a new one begins, so its inode changes. A task that prints faster than we rotate
  // loses lines, never disk. Survives remove(); a task started again under its id goes on in the
  // same file.
  virtual std::filesystem::path log_path(const std::string& task) const = 0;
  // Removes the log of a task that is removed. Idempotent.
  virtual Async<Result<void>> remove_log(std::string task) {
    static_cast<void>(task);
    co_return Result<void>{};
  }
};

struct ContainerOptions {
  std::filesystem::path directory{};  // bundles, scratch disks, logs: all under here
  std::string instance{};             // 6 hex, names the cgroup root "hob-<instance>"
  // The runtime's state and an empty mount point, in a place that everyone may walk to (a task's
  // root is not root, and `directory` may be closed). Made when needed, gone when no task is left.
  // Empty: "/run/hob-<instance>".
  std::filesystem::path run_directory{};
  // Where instances of this machine agree on ranges of user ids.
  std::filesystem::path shared_directory = "/run/hob-shared";
};
// The crun driver. The pool must outlive it.
std::unique_ptr<Sandbox> make_container_sandbox(ContainerOptions options, const Executor& executor,
                                                BlockingPool& pool);

struct MicrovmOptions {
  std::filesystem::path directory{};  // bundles, disks, logs: all under here
  std::string instance{};             // 6 hex, names the cgroup root "hob-<instance>"
  std::filesystem::path kernel{};     // as `hob kernel install` leaves them
  std::filesystem::path initrd{};
  // Where instances of this machine agree on ranges of user ids.
  std::filesystem::path shared_directory = "/run/hob-shared";
};
// The microVM driver: a task is a virtual machine of its own. KVM must work. The pool must outlive
// it.
std::unique_ptr<Sandbox> make_microvm_sandbox(MicrovmOptions options, const Executor& executor,
                                              BlockingPool& pool);
// Tasks start as they ask to; those that do not, in microVMs or, where `microvms` is false, in
// containers; those that an earlier process started go on as they are. Both of one directory and
// instance.
std::unique_ptr<Sandbox> make_mixed_sandbox(ContainerOptions containers, MicrovmOptions microvm,
                                            bool microvms, const Executor& executor,
                                            BlockingPool& pool);

}  // namespace hob::sandbox
