// Where the steps of a build run: a container of its own for each, over layers, of which what it
// wrote is kept as a new layer.
//
// Isolated as tasks are (sandbox/): root of a user namespace of its own, no way to the machine, its
// networks or other tasks, limits on CPU, memory, disk, processes, time and output. One object is
// one build's; a directory and an instance name of its own, which an earlier build that was killed
// may have left things in: open() clears them. Blocking; one thread. Root only.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/time.h"

namespace hob::builder {

struct BuildLimits {
  int cpu = 2048;         // 1/1024 CPU, a quota
  int memory_mib = 4096;  // swap included
  int disk_mib = 10'240;  // of what the steps of one container write
  int processes_max = 512;
  Duration step_within{30 * 60 * 1000};
  uint64_t log_bytes_max = 8 * 1024 * 1024;  // of a step's output; more is counted, not kept
};
inline constexpr size_t kLogLineBytesMax = 16 * 1024;  // longer ones are cut into several

struct StepSpec {
  std::vector<std::filesystem::path> layers{};  // unpacked, top first
  std::vector<std::string> commands{};          // each by sh -c, in turn, until one fails
  std::map<std::string, std::string> environment{};
  std::string working_directory = "/";
};

struct StepEnd {
  int exit_code = 0;          // of the command that failed, 128 + signal; 0: all did well
  size_t failed_command = 0;  // which; of no meaning when all did well
  bool out_of_memory = false;
  bool out_of_time = false;
};

// A line that a step printed, without its end; valid during the call. Control characters other than
// tabs are gone.
using LineSink = std::function<void(std::string_view line)>;
// What a step left, while it can be read.
struct StepFiles {
  std::filesystem::path upper{};  // what it wrote over the layers, as overlayfs has it
  std::filesystem::path root{};   // its root as it saw it: the layers with what it wrote
  uint32_t first_id = 0;          // of its user ids, in both
};
using KeepFiles = std::function<Result<void>(const StepFiles& files)>;

class BuildSandbox {
 public:
  // `network`: the handle of a network namespace and the name server to use in it.
  struct Options {
    std::filesystem::path directory{};
    std::string instance{};  // 6 hex digits
    std::filesystem::path network_namespace{};
    std::string name_server{};
    BuildLimits limits{};
  };
  // `cancelled`, once true, ends a step soon. It must outlive the sandbox.
  static Result<std::unique_ptr<BuildSandbox>> open(Options options,
                                                    const std::atomic<bool>& cancelled);
  ~BuildSandbox();

  // `keep` is called only if all commands did well. kCancelled. kUnavailable: the machine failed
  // us, not the commands.
  Result<StepEnd> run(const StepSpec& spec, const LineSink& line, const KeepFiles& keep);

 private:
  struct State;
  explicit BuildSandbox(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace hob::builder
