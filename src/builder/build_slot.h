// A place to build in: a directory, a network of its own, an instance name for its cgroups. A state
// directory has a few; each is one process's at a time, and the next finds and clears what a killed
// one left. Blocking.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "base/file.h"
#include "base/result.h"
#include "network/vpc.h"

namespace hob::builder {

inline constexpr int kBuildsAtOnce = 4;  // of one state directory

class BuildSlot {
 public:
  // What killed builds left in other slots is cleared, too. kLimit: all are taken.
  static Result<std::unique_ptr<BuildSlot>> take(const std::filesystem::path& state);
  // Clears what killed builds left in the slots that nobody has. Logs what it cannot.
  static void clear_idle(const std::filesystem::path& state);
  // Takes the network down.
  ~BuildSlot();
  BuildSlot(const BuildSlot&) = delete;
  BuildSlot& operator=(const BuildSlot&) = delete;

  const std::filesystem::path& directory() const { return directory_; }
  const std::string& instance() const { return instance_; }
  // The network's own namespace, where its name server listens.
  std::filesystem::path vpc() const { return vpc_->handle(); }
  // The namespace for the steps.
  const std::filesystem::path& network_namespace() const { return network_namespace_; }

 private:
  BuildSlot() = default;
  // Null: somebody has it.
  static Result<std::unique_ptr<BuildSlot>> lock(const std::filesystem::path& state, int number);
  Result<void> set_up();
  Fd lock_;
  std::filesystem::path directory_;
  std::string instance_;
  std::unique_ptr<network::Vpc> vpc_;
  std::filesystem::path network_namespace_;
};

}  // namespace hob::builder
