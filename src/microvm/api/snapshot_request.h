// The bodies of PUT /snapshot/create and /snapshot/load, as Firecracker has them.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "microvm/api/configuration.h"
#include "microvm/api/json.h"
#include "microvm/snapshot/memory_file.h"

namespace hob::microvm {

struct SnapshotCreation {
  std::string memory_path{};
  std::string state_path{};
  SnapshotKind kind = SnapshotKind::kFull;
};
Result<SnapshotCreation> read_snapshot_creation(const Json& json);

struct SnapshotLoading {
  std::string state_path{};
  bool handled = false;       // memory by the fault handler at memory_path; else the file there
  std::string memory_path{};  // backend_path
  bool track_dirty = false;
  bool resume = false;
  bool clock_forward = false;             // clock_realtime
  std::optional<HugePages> huge_pages{};  // none: as in the snapshot
  struct Interface {
    std::string id{};
    std::string tap{};  // instead of the one that it had
  };
  std::vector<Interface> interfaces{};      // network_overrides
  std::optional<std::string> vsock_path{};  // vsock_override
  bool deprecated = false;                  // a field that Firecracker means to drop was used
};
Result<SnapshotLoading> read_snapshot_loading(const Json& json);

}  // namespace hob::microvm
