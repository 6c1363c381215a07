// What the API was told before boot, as it was told it, and how that reads as JSON (both ways).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "microvm/api/json.h"
#include "microvm/api/logger.h"
#include "microvm/api/metrics.h"
#include "microvm/mmds/stack.h"
#include "microvm/virtio/net.h"

namespace hob::microvm {

enum class HugePages { kNone, kTransparent, k2M };

struct MachineConfiguration {
  uint8_t vcpu_count = 1;
  uint64_t memory_mib = 128;
  bool smt = false;
  bool track_dirty_pages = false;
  HugePages huge_pages = HugePages::kNone;
};

struct BootSource {
  std::string kernel_path{};
  std::optional<std::string> initrd_path{};
  std::optional<std::string> arguments{};
};

struct Drive {
  std::string id{};
  std::string path{};
  std::optional<std::string> partition{};
  bool root = false;
  bool read_only = false;
  bool write_back = false;    // cache type
  bool asynchronous = false;  // the engine
  RateLimiterOptions limit{};
};

struct DriveUpdate {
  std::string id{};
  std::optional<std::string> path{};
  RateLimiterOptions limit{};  // buckets that are not given stay
};

struct NetworkInterface {
  std::string id{};
  std::string tap{};  // its name on the host
  std::optional<MacAddress> mac{};
  std::optional<uint16_t> mtu{};
  RateLimiterOptions receive{};
  RateLimiterOptions send{};
};

struct MmdsConfiguration {
  MmdsVersion version = MmdsVersion::kV1;
  std::vector<std::string> interfaces{};  // their ids
  Ipv4Address address = {169, 254, 169, 254};
  bool imds_compat = false;
};

// Each reads a request's body; what it refuses is worded as Firecracker does.
struct MachineUpdate {
  std::optional<uint8_t> vcpu_count{};
  std::optional<uint64_t> memory_mib{};
  std::optional<bool> smt{};
  std::optional<bool> track_dirty_pages{};
  std::optional<HugePages> huge_pages{};
  bool empty() const;
};
Result<MachineConfiguration> read_machine(
    const Json& json);  // PUT: what is left out has its default
Result<MachineUpdate> read_machine_update(const Json& json);  // PATCH
Result<BootSource> read_boot_source(const Json& json);
Result<Drive> read_drive(const Json& json);
Result<DriveUpdate> read_drive_update(const Json& json);
Result<RateLimiterOptions> read_entropy(const Json& json);
Result<NetworkInterface> read_interface(const Json& json);
struct InterfaceUpdate {
  std::string id{};
  Net::Limits limits{};  // buckets that are not given stay
};
Result<InterfaceUpdate> read_interface_update(const Json& json);
Result<MmdsConfiguration> read_mmds(const Json& json);
Result<LoggerUpdate> read_logger(const Json& json);
Result<MetricsOptions> read_metrics(const Json& json);

// Rules between values. kInvalid.
Result<void> check(const MachineConfiguration& machine);

Json show(const MachineConfiguration& machine);
Json show(const std::optional<BootSource>& source);
Json show(const Drive& drive);
Json show(const NetworkInterface& interface);
std::string show(const MacAddress& mac);
Json show(const std::optional<MmdsConfiguration>& mmds);
Json show_entropy(const std::optional<RateLimiterOptions>& entropy);

}  // namespace hob::microvm
