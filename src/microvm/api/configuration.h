// What the API was told before boot, as it was told it, and how that reads as JSON (both ways).
#pragma once

#include <boost/describe.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "microvm/api/json.h"
#include "microvm/api/logger.h"
#include "microvm/api/metrics.h"
#include "microvm/machine/cpu_template.h"
#include "microvm/machine/static_template.h"
#include "microvm/memory/guest_memory.h"
#include "microvm/mmds/stack.h"
#include "microvm/virtio/balloon.h"
#include "microvm/virtio/mem.h"
#include "microvm/virtio/net.h"

namespace hob::microvm {

enum class HugePages { kNone, kTransparent, k2M };

struct MachineConfiguration {
  uint8_t vcpu_count = 1;
  uint64_t memory_mib = 128;
  bool smt = false;
  bool track_dirty_pages = false;
  HugePages huge_pages = HugePages::kNone;
  StaticTemplate cpu_template = StaticTemplate::kNone;
};
BOOST_DESCRIBE_STRUCT(MachineConfiguration, (),
                      (vcpu_count, memory_mib, smt, track_dirty_pages, huge_pages, cpu_template))

struct BootSource {
  std::string kernel_path{};
  std::optional<std::string> initrd_path{};
  std::optional<std::string> arguments{};
};
BOOST_DESCRIBE_STRUCT(BootSource, (), (kernel_path, initrd_path, arguments))

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

BOOST_DESCRIBE_STRUCT(Drive, (),
                      (id, path, partition, root, read_only, write_back, asynchronous, limit))

struct DriveUpdate {
  std::string id{};
  std::optional<std::string> path{};
  RateLimiterOptions limit{};  // buckets that are not given stay
};

struct PmemConfiguration {
  std::string id{};
  std::string path{};
  bool root = false;
  bool read_only = false;
  RateLimiterOptions limit{};
};
BOOST_DESCRIBE_STRUCT(PmemConfiguration, (), (id, path, root, read_only, limit))

struct PmemUpdate {
  std::string id{};
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
BOOST_DESCRIBE_STRUCT(NetworkInterface, (), (id, tap, mac, mtu, receive, send))

struct VsockConfiguration {
  uint32_t guest_cid = 0;
  std::string path{};
};
BOOST_DESCRIBE_STRUCT(VsockConfiguration, (), (guest_cid, path))

// COM1's output. Of this process alone: in no snapshot, and shown nowhere.
struct SerialConfiguration {
  std::optional<std::string> path{};          // none: standard output
  std::optional<TokenBucketOptions> limit{};  // tokens are bytes
};

struct MmdsConfiguration {
  MmdsVersion version = MmdsVersion::kV1;
  std::vector<std::string> interfaces{};  // their ids
  Ipv4Address address = {169, 254, 169, 254};
  bool imds_compat = false;
};
BOOST_DESCRIBE_STRUCT(MmdsConfiguration, (), (version, interfaces, address, imds_compat))

// Each reads a request's body; what it refuses is worded as Firecracker does.
struct MachineUpdate {
  std::optional<uint8_t> vcpu_count{};
  std::optional<uint64_t> memory_mib{};
  std::optional<bool> smt{};
  std::optional<bool> track_dirty_pages{};
  std::optional<HugePages> huge_pages{};
  std::optional<StaticTemplate> cpu_template{};
  bool empty() const;
};
// PUT: what is left out has its default; a template is there if it was given, its default is not.
struct MachineRequest {
  MachineConfiguration machine{};
  std::optional<StaticTemplate> cpu_template{};
};
Result<MachineRequest> read_machine(const Json& json);
Result<MachineUpdate> read_machine_update(const Json& json);  // PATCH
Result<BootSource> read_boot_source(const Json& json);
Result<CpuTemplate> read_cpu_template(const Json& json);
Result<Drive> read_drive(const Json& json);
Result<BalloonOptions> read_balloon(const Json& json);
Result<DriveUpdate> read_drive_update(const Json& json);
// Its rules between values among them. kInvalid.
Result<HotPlugOptions> read_hot_plug(const Json& json);
Result<void> check(const HotPlugOptions& hot_plug);
Result<PmemConfiguration> read_pmem(const Json& json);
Result<PmemUpdate> read_pmem_update(const Json& json);
Result<RateLimiterOptions> read_entropy(const Json& json);
Result<NetworkInterface> read_interface(const Json& json);
struct InterfaceUpdate {
  std::string id{};
  Net::Limits limits{};  // buckets that are not given stay
};
Result<InterfaceUpdate> read_interface_update(const Json& json);
Result<VsockConfiguration> read_vsock(const Json& json);
Result<SerialConfiguration> read_serial(const Json& json);
Result<MmdsConfiguration> read_mmds(const Json& json);
Result<LoggerUpdate> read_logger(const Json& json);
Result<MetricsOptions> read_metrics(const Json& json);

// Letters, digits and '_'. kInvalid.
Result<void> check_id(std::string_view id);
GuestMemory::Pages pages_of(HugePages huge_pages);
// Rules between values. kInvalid.
Result<void> check(const MachineConfiguration& machine);

Json show(const MachineConfiguration& machine);
Json show(const std::optional<BootSource>& source);
Json show(const Drive& drive);
Json show(const std::optional<BalloonOptions>& balloon);
Json show(const std::optional<HotPlugOptions>& hot_plug);
Json show(const PmemConfiguration& pmem);
Json show(const NetworkInterface& interface);
std::string show(const MacAddress& mac);
Json show(const std::optional<VsockConfiguration>& vsock);
Json show(const std::optional<MmdsConfiguration>& mmds);
Json show_entropy(const std::optional<RateLimiterOptions>& entropy);

}  // namespace hob::microvm
