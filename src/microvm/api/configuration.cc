#include "microvm/api/configuration.h"

#include <fmt/core.h>

#include <algorithm>
#include <bit>
#include <charconv>

#include "microvm/machine/machine.h"

namespace hob::microvm {
namespace {

constexpr std::initializer_list<std::string_view> kHugePagesWords = {"None", "Transparent", "2M"};
constexpr std::initializer_list<std::string_view> kMachineFields = {
    "vcpu_count", "mem_size_mib", "smt", "cpu_template", "track_dirty_pages", "huge_pages"};
constexpr std::initializer_list<std::string_view> kTemplateWords = {
    kStaticTemplateWords[0], kStaticTemplateWords[1], kStaticTemplateWords[2],
    kStaticTemplateWords[3], kStaticTemplateWords[4], kStaticTemplateWords[5]};
constexpr uint64_t kHugePageMib = 2;
constexpr uint64_t kHotPlugBlockMibMin = 2;
constexpr uint64_t kHotPlugSlotMibMin = 128;

Json text(std::string_view value) { return Json(Json::Value(std::string(value))); }
Json number(uint64_t value) { return Json(Json::Value(value)); }
Json flag(bool value) { return Json(Json::Value(value)); }
Json text_or_null(const std::optional<std::string>& value) { return value ? text(*value) : Json(); }

void read_static_template(Fields& fields, std::optional<StaticTemplate>& into) {
  const Json* given = fields.find("cpu_template");
  if (given == nullptr || given->is_null()) return;
  size_t name = 0;
  fields.variant("cpu_template", kTemplateWords, name);
  into = static_cast<StaticTemplate>(name);
}

Result<TokenBucketOptions> read_bucket(const Json& json) {
  TokenBucketOptions bucket;
  std::optional<uint64_t> burst;
  Fields fields(json, "struct TokenBucketConfig", {"size", "one_time_burst", "refill_time"},
                Fields::Unknown::kIgnored);
  fields.required("size", bucket.size);
  fields.optional("one_time_burst", burst);
  fields.required("refill_time", bucket.refill_ms);
  HOB_CHECK(fields.finish());
  bucket.burst = burst.value_or(0);
  return bucket;
}

void read_bucket_field(Fields& fields, std::string_view name,
                       std::optional<TokenBucketOptions>& into) {
  const Json* given = fields.find(name);
  if (given == nullptr || given->is_null()) return;
  const auto bucket = read_bucket(*given);
  if (!bucket) return fields.fail_with(bucket.error().message);
  into = *bucket;
}

void read_limiter(Fields& fields, std::string_view name, RateLimiterOptions& into) {
  const Json* given = fields.find(name);
  if (given == nullptr || given->is_null()) return;
  Fields parts(*given, "struct RateLimiterConfig", {"bandwidth", "ops"});
  read_bucket_field(parts, "bandwidth", into.bandwidth);
  read_bucket_field(parts, "ops", into.operations);
  if (const auto whole = parts.finish(); !whole) fields.fail_with(whole.error().message);
}

Json show_bucket(const std::optional<TokenBucketOptions>& bucket) {
  if (!bucket || !TokenBucket(*bucket, {}).limits()) return {};
  return Json(Json::Object{{"size", number(bucket->size)},
                           {"one_time_burst", bucket->burst > 0 ? number(bucket->burst) : Json()},
                           {"refill_time", number(bucket->refill_ms)}});
}

Json show_limiter(const RateLimiterOptions& limiter) {
  Json bandwidth = show_bucket(limiter.bandwidth);
  Json operations = show_bucket(limiter.operations);
  if (bandwidth.is_null() && operations.is_null()) return {};
  return Json(Json::Object{{"bandwidth", std::move(bandwidth)}, {"ops", std::move(operations)}});
}

// Six pairs of hexadecimal digits with colons between.
std::optional<MacAddress> parse_mac(std::string_view words) {
  constexpr size_t kLength = 17;
  if (words.size() != kLength) return std::nullopt;
  MacAddress mac{};
  for (size_t i = 0; i < mac.size(); ++i) {
    const char* begin = words.data() + 3 * i;
    const auto [end, error] = std::from_chars(begin, begin + 2, mac[i], 16);
    if (error != std::errc() || end != begin + 2) return std::nullopt;
    if (i + 1 < mac.size() && *end != ':') return std::nullopt;
  }
  return mac;
}

std::optional<Ipv4Address> parse_ipv4(std::string_view words) {
  Ipv4Address address{};
  const char* at = words.data();
  const char* const end = words.data() + words.size();
  for (size_t i = 0; i < address.size(); ++i) {
    if (i > 0 && (at == end || *at++ != '.')) return std::nullopt;
    const char* const first = at;
    const auto [behind, error] = std::from_chars(at, end, address[i]);
    if (error != std::errc() || (*first == '0' && behind - first > 1)) return std::nullopt;
    at = behind;
  }
  return at == end ? std::optional(address) : std::nullopt;
}

}  // namespace

bool MachineUpdate::empty() const {
  return !vcpu_count && !memory_mib && !smt && !track_dirty_pages && !huge_pages && !cpu_template;
}

Result<MachineRequest> read_machine(const Json& json) {
  MachineRequest request;
  MachineConfiguration& machine = request.machine;
  Fields fields(json, "struct MachineConfig", kMachineFields);
  fields.required("vcpu_count", machine.vcpu_count);
  fields.required("mem_size_mib", machine.memory_mib);
  fields.defaulted("smt", machine.smt);
  read_static_template(fields, request.cpu_template);
  fields.defaulted("track_dirty_pages", machine.track_dirty_pages);
  size_t pages = 0;
  fields.variant("huge_pages", kHugePagesWords, pages);
  machine.huge_pages = static_cast<HugePages>(pages);
  HOB_CHECK(fields.finish());
  return request;
}

Result<MachineUpdate> read_machine_update(const Json& json) {
  MachineUpdate update;
  Fields fields(json, "struct MachineConfigUpdate", kMachineFields);
  fields.optional("vcpu_count", update.vcpu_count);
  fields.optional("mem_size_mib", update.memory_mib);
  fields.optional("smt", update.smt);
  read_static_template(fields, update.cpu_template);
  fields.optional("track_dirty_pages", update.track_dirty_pages);
  if (const Json* given = fields.find("huge_pages"); given != nullptr && !given->is_null()) {
    size_t pages = 0;
    fields.variant("huge_pages", kHugePagesWords, pages);
    update.huge_pages = static_cast<HugePages>(pages);
  }
  HOB_CHECK(fields.finish());
  return update;
}

Result<BootSource> read_boot_source(const Json& json) {
  BootSource source;
  Fields fields(json, "struct BootSourceConfig", {"kernel_image_path", "initrd_path", "boot_args"});
  fields.required("kernel_image_path", source.kernel_path);
  fields.optional("initrd_path", source.initrd_path);
  fields.optional("boot_args", source.arguments);
  HOB_CHECK(fields.finish());
  return source;
}

Result<Drive> read_drive(const Json& json) {
  Drive drive;
  std::optional<std::string> path;
  std::optional<std::string> socket;
  std::optional<bool> read_only;
  size_t cache = 0;
  size_t engine = 0;
  Fields fields(json, "struct BlockDeviceConfig",
                {"drive_id", "partuuid", "is_root_device", "cache_type", "is_read_only",
                 "path_on_host", "rate_limiter", "io_engine", "socket"});
  fields.required("drive_id", drive.id);
  fields.optional("partuuid", drive.partition);
  fields.required("is_root_device", drive.root);
  fields.variant("cache_type", {"Unsafe", "Writeback"}, cache);
  fields.optional("is_read_only", read_only);
  fields.optional("path_on_host", path);
  fields.variant("io_engine", {"Sync", "Async"}, engine);
  fields.optional("socket", socket);
  read_limiter(fields, "rate_limiter", drive.limit);
  HOB_CHECK(fields.finish());
  if (path.has_value() == socket.has_value()) return fail(Code::kInvalid, "Invalid block config.");
  if (socket) return fail(Code::kInvalid, "vhost-user drives are not built in hob-vmm");
  drive.path = *path;
  drive.read_only = read_only.value_or(false);
  drive.write_back = cache == 1;
  drive.asynchronous = engine == 1;
  return drive;
}

Result<BalloonOptions> read_balloon(const Json& json) {
  BalloonOptions balloon;
  Fields fields(json, "struct BalloonDeviceConfig",
                {"amount_mib", "deflate_on_oom", "stats_polling_interval_s", "free_page_hinting",
                 "free_page_reporting"});
  fields.required("amount_mib", balloon.target_mib);
  fields.required("deflate_on_oom", balloon.deflate_on_oom);
  fields.defaulted("stats_polling_interval_s", balloon.interval_s);
  fields.defaulted("free_page_hinting", balloon.hinting);
  fields.defaulted("free_page_reporting", balloon.reporting);
  HOB_CHECK(fields.finish());
  return balloon;
}

Result<void> check_id(std::string_view id) {
  if (id.empty()) return fail(Code::kInvalid, "The ID cannot be empty.");
  const bool plain = std::ranges::all_of(id, [](char c) {
    return c == '_' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  });
  if (!plain)
    return fail(Code::kInvalid,
                "API Resource IDs can only contain alphanumeric characters and underscores.");
  return {};
}

GuestMemory::Pages pages_of(HugePages huge_pages) {
  return huge_pages == HugePages::kTransparent ? GuestMemory::Pages::kTransparentHuge
         : huge_pages == HugePages::k2M        ? GuestMemory::Pages::kHuge
                                               : GuestMemory::Pages::kNormal;
}

Result<SerialConfiguration> read_serial(const Json& json) {
  SerialConfiguration serial;
  Fields fields(json, "struct SerialConfig", {"serial_out_path", "rate_limiter"});
  fields.optional("serial_out_path", serial.path);
  read_bucket_field(fields, "rate_limiter", serial.limit);
  HOB_CHECK(fields.finish());
  return serial;
}

Result<DriveUpdate> read_drive_update(const Json& json) {
  DriveUpdate update;
  Fields fields(json, "struct BlockDeviceUpdateConfig",
                {"drive_id", "path_on_host", "rate_limiter"});
  fields.required("drive_id", update.id);
  fields.optional("path_on_host", update.path);
  read_limiter(fields, "rate_limiter", update.limit);
  HOB_CHECK(fields.finish());
  return update;
}

Result<HotPlugOptions> read_hot_plug(const Json& json) {
  HotPlugOptions hot_plug;
  Fields fields(json, "struct MemoryHotplugConfig",
                {"total_size_mib", "slot_size_mib", "block_size_mib"});
  fields.required("total_size_mib", hot_plug.total);
  fields.defaulted("slot_size_mib", hot_plug.slot);
  fields.defaulted("block_size_mib", hot_plug.block);
  HOB_CHECK(fields.finish());
  return hot_plug;
}

Result<void> check(const HotPlugOptions& hot_plug) {
  if (hot_plug.block < kHotPlugBlockMibMin)
    return fail(Code::kInvalid, "Block size must not be lower than {} MiB", kHotPlugBlockMibMin);
  if (!std::has_single_bit(hot_plug.block))
    return fail(Code::kInvalid, "Block size must be a power of 2");
  if (hot_plug.slot < kHotPlugSlotMibMin)
    return fail(Code::kInvalid, "Slot size must not be lower than {} MiB", kHotPlugSlotMibMin);
  if (hot_plug.slot % hot_plug.block != 0)
    return fail(Code::kInvalid, "Slot size must be a multiple of block size");
  if (hot_plug.total < hot_plug.slot)
    return fail(Code::kInvalid, "Total size must not be lower than slot size");
  if (hot_plug.total % hot_plug.slot != 0)
    return fail(Code::kInvalid, "Total size must be a multiple of slot size");
  if (hot_plug.total > kMemoryMibMax)
    return fail(Code::kInvalid, "Total size must not be greater than {} MiB", kMemoryMibMax);
  return {};
}

Json show(const std::optional<HotPlugOptions>& hot_plug) {
  if (!hot_plug) return {};
  return Json(Json::Object{{"total_size_mib", number(hot_plug->total)},
                           {"block_size_mib", number(hot_plug->block)},
                           {"slot_size_mib", number(hot_plug->slot)}});
}

Result<PmemConfiguration> read_pmem(const Json& json) {
  PmemConfiguration pmem;
  Fields fields(json, "struct PmemConfig",
                {"id", "path_on_host", "root_device", "read_only", "rate_limiter"});
  fields.required("id", pmem.id);
  fields.required("path_on_host", pmem.path);
  fields.defaulted("root_device", pmem.root);
  fields.defaulted("read_only", pmem.read_only);
  read_limiter(fields, "rate_limiter", pmem.limit);
  HOB_CHECK(fields.finish());
  return pmem;
}

Result<PmemUpdate> read_pmem_update(const Json& json) {
  PmemUpdate update;
  Fields fields(json, "struct PmemDeviceUpdateConfig", {"id", "rate_limiter"});
  fields.required("id", update.id);
  read_limiter(fields, "rate_limiter", update.limit);
  HOB_CHECK(fields.finish());
  return update;
}

Json show(const PmemConfiguration& pmem) {
  return Json(Json::Object{{"id", text(pmem.id)},
                           {"path_on_host", text(pmem.path)},
                           {"root_device", flag(pmem.root)},
                           {"read_only", flag(pmem.read_only)},
                           {"rate_limiter", show_limiter(pmem.limit)}});
}

Result<RateLimiterOptions> read_entropy(const Json& json) {
  RateLimiterOptions limit;
  Fields fields(json, "struct EntropyDeviceConfig", {"rate_limiter"});
  read_limiter(fields, "rate_limiter", limit);
  HOB_CHECK(fields.finish());
  return limit;
}

Json show_entropy(const std::optional<RateLimiterOptions>& entropy) {
  if (!entropy) return {};
  return Json(Json::Object{{"rate_limiter", show_limiter(*entropy)}});
}

Result<NetworkInterface> read_interface(const Json& json) {
  NetworkInterface interface;
  std::optional<std::string> mac;
  Fields fields(
      json, "struct NetworkInterfaceConfig",
      {"iface_id", "host_dev_name", "guest_mac", "mtu", "rx_rate_limiter", "tx_rate_limiter"});
  fields.required("iface_id", interface.id);
  fields.required("host_dev_name", interface.tap);
  fields.optional("guest_mac", mac);
  fields.optional("mtu", interface.mtu);
  read_limiter(fields, "rx_rate_limiter", interface.receive);
  read_limiter(fields, "tx_rate_limiter", interface.send);
  if (mac) {
    interface.mac = parse_mac(*mac);
    if (!interface.mac) fields.fail_with("The provided MAC address is invalid.");
  }
  HOB_CHECK(fields.finish());
  return interface;
}

Result<InterfaceUpdate> read_interface_update(const Json& json) {
  InterfaceUpdate update;
  Fields fields(json, "struct NetworkInterfaceUpdateConfig",
                {"iface_id", "rx_rate_limiter", "tx_rate_limiter"});
  fields.required("iface_id", update.id);
  read_limiter(fields, "rx_rate_limiter", update.limits.receive);
  read_limiter(fields, "tx_rate_limiter", update.limits.send);
  HOB_CHECK(fields.finish());
  return update;
}

Result<VsockConfiguration> read_vsock(const Json& json) {
  VsockConfiguration vsock;
  std::optional<std::string> id;  // deprecated: there is one device
  Fields fields(json, "struct VsockDeviceConfig", {"vsock_id", "guest_cid", "uds_path"});
  fields.optional("vsock_id", id);
  fields.required("guest_cid", vsock.guest_cid);
  fields.required("uds_path", vsock.path);
  HOB_CHECK(fields.finish());
  return vsock;
}

Result<MmdsConfiguration> read_mmds(const Json& json) {
  MmdsConfiguration mmds;
  std::optional<std::string> address;
  size_t version = 0;
  Fields fields(json, "struct MmdsConfig",
                {"version", "network_interfaces", "ipv4_address", "imds_compat"});
  fields.variant("version", {"V1", "V2"}, version);
  mmds.version = static_cast<MmdsVersion>(version);
  fields.optional("ipv4_address", address);
  fields.defaulted("imds_compat", mmds.imds_compat);
  if (const Json* list = fields.find("network_interfaces"); list == nullptr) {
    fields.fail_with(Fields::missing("network_interfaces"));
  } else if (const auto* ids = list->as<Json::Array>(); ids == nullptr) {
    fields.fail_with("invalid type: expected a sequence");
  } else {
    for (const Json& id : *ids) {
      const auto* name = id.as<std::string>();
      if (name == nullptr) fields.fail_with("invalid type: expected a string");
      mmds.interfaces.push_back(name == nullptr ? "" : *name);
    }
  }
  if (address) {
    const auto parsed = parse_ipv4(*address);
    if (!parsed) fields.fail_with("invalid IPv4 address syntax");
    mmds.address = parsed.value_or(mmds.address);
  }
  HOB_CHECK(fields.finish());
  return mmds;
}

Result<LoggerUpdate> read_logger(const Json& json) {
  LoggerUpdate update;
  std::optional<std::string> level;
  std::optional<std::string> module;  // whose lines alone are wanted; ours have other names
  Fields fields(json, "struct LoggerConfig",
                {"log_path", "level", "show_level", "show_log_origin", "module"});
  fields.optional("log_path", update.path);
  fields.optional("level", level);
  fields.optional("show_level", update.show_level);
  fields.optional("show_log_origin", update.show_origin);
  fields.optional("module", module);
  if (level) {
    update.level = parse_level(*level);
    if (!update.level)
      fields.fail_with(
          fmt::format("unknown variant `{}`, expected one of `Off`, `Trace`, `Debug`, "
                      "`Info`, `Warn`, `Error`",
                      *level));
  }
  HOB_CHECK(fields.finish());
  return update;
}

Result<MetricsOptions> read_metrics(const Json& json) {
  MetricsOptions options;
  Fields fields(json, "struct MetricsConfig", {"metrics_path", "emit_id", "properties"},
                Fields::Unknown::kIgnored);
  fields.required("metrics_path", options.path);
  fields.defaulted("emit_id", options.emit_id);
  if (const Json* properties = fields.find("properties")) {
    options.properties = *properties;
    if (!properties->is_null() && properties->as<Json::Object>() == nullptr)
      fields.fail_with("invalid type: `properties` is no map");
  }
  HOB_CHECK(fields.finish());
  return options;
}

Result<void> check(const MachineConfiguration& machine) {
  if (machine.huge_pages > HugePages::k2M) return fail(Code::kInvalid, "no such size of pages");
  if (machine.cpu_template > StaticTemplate::kT2A)
    return fail(Code::kInvalid, "no such CPU template");
  if (machine.vcpu_count == 0)
    return fail(Code::kInvalid, "The number of vCPUs must be greater than 0.");
  if (machine.vcpu_count > kVcpusMax)
    return fail(Code::kInvalid, "The number of vCPUs must be less than or equal to {}.", kVcpusMax);
  if (machine.smt && machine.vcpu_count > 1 && machine.vcpu_count % 2 != 0)
    return fail(Code::kInvalid,
                "The number of vCPUs must be 1 or an even number when SMT is enabled.");
  const bool fits = machine.huge_pages != HugePages::k2M || machine.memory_mib % kHugePageMib == 0;
  if (machine.memory_mib == 0 || machine.memory_mib > kMemoryMibMax || !fits)
    return fail(
        Code::kInvalid,
        "The memory size (MiB) is either 0, or not a multiple of the configured page size.");
  return {};
}

Json show(const MachineConfiguration& machine) {
  Json::Object object = {{"vcpu_count", number(machine.vcpu_count)},
                         {"mem_size_mib", number(machine.memory_mib)},
                         {"smt", flag(machine.smt)}};
  if (machine.cpu_template != StaticTemplate::kNone)
    object.emplace_back("cpu_template",
                        text(kStaticTemplateWords[static_cast<size_t>(machine.cpu_template)]));
  object.emplace_back("track_dirty_pages", flag(machine.track_dirty_pages));
  object.emplace_back("huge_pages",
                      text(kHugePagesWords.begin()[static_cast<size_t>(machine.huge_pages)]));
  return Json(std::move(object));
}

Json show(const std::optional<BootSource>& source) {
  return Json(Json::Object{{"kernel_image_path", text(source ? source->kernel_path : "")},
                           {"initrd_path", source ? text_or_null(source->initrd_path) : Json()},
                           {"boot_args", source ? text_or_null(source->arguments) : Json()}});
}

std::string show(const MacAddress& mac) {
  return fmt::format("{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", mac[0], mac[1], mac[2], mac[3],
                     mac[4], mac[5]);
}

Json show(const std::optional<MmdsConfiguration>& mmds) {
  if (!mmds) return {};
  Json::Array interfaces;
  for (const std::string& id : mmds->interfaces) interfaces.push_back(text(id));
  const Ipv4Address& ip = mmds->address;
  return Json(
      Json::Object{{"version", text(mmds->version == MmdsVersion::kV1 ? "V1" : "V2")},
                   {"network_interfaces", Json(std::move(interfaces))},
                   {"ipv4_address", text(fmt::format("{}.{}.{}.{}", ip[0], ip[1], ip[2], ip[3]))},
                   {"imds_compat", flag(mmds->imds_compat)}});
}

Json show(const NetworkInterface& interface) {
  return Json(Json::Object{{"iface_id", text(interface.id)},
                           {"host_dev_name", text(interface.tap)},
                           {"guest_mac", interface.mac ? text(show(*interface.mac)) : Json()},
                           {"mtu", interface.mtu ? number(*interface.mtu) : Json()},
                           {"rx_rate_limiter", show_limiter(interface.receive)},
                           {"tx_rate_limiter", show_limiter(interface.send)}});
}

Json show(const std::optional<BalloonOptions>& balloon) {
  if (!balloon) return {};
  return Json(Json::Object{{"amount_mib", number(balloon->target_mib)},
                           {"deflate_on_oom", flag(balloon->deflate_on_oom)},
                           {"stats_polling_interval_s", number(balloon->interval_s)},
                           {"free_page_hinting", flag(balloon->hinting)},
                           {"free_page_reporting", flag(balloon->reporting)}});
}

Json show(const Drive& drive) {
  return Json(Json::Object{{"drive_id", text(drive.id)},
                           {"partuuid", text_or_null(drive.partition)},
                           {"is_root_device", flag(drive.root)},
                           {"cache_type", text(drive.write_back ? "Writeback" : "Unsafe")},
                           {"is_read_only", flag(drive.read_only)},
                           {"path_on_host", text(drive.path)},
                           {"rate_limiter", show_limiter(drive.limit)},
                           {"io_engine", text(drive.asynchronous ? "Async" : "Sync")},
                           {"socket", Json()}});
}

Json show(const std::optional<VsockConfiguration>& vsock) {
  if (!vsock) return Json();
  return Json(
      Json::Object{{"guest_cid", number(vsock->guest_cid)}, {"uds_path", text(vsock->path)}});
}

}  // namespace hob::microvm
