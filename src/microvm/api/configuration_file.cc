// A configuration file: what the API would be told one by one, in the order in which Firecracker
// applies it, and started.
#include "microvm/api/answers.h"
#include "microvm/api/api.h"

namespace hob::microvm {

Result<void> MicrovmApi::start_from(std::string_view configuration_file) {
  HOB_TRY(const Json json, Json::parse(configuration_file));
  Fields fields(
      json, "struct VmmConfig",
      {"boot-source", "drives", "machine-config", "network-interfaces", "balloon", "vsock",
       "entropy", "mmds-config", "logger", "metrics", "cpu-config", "pmem", "memory-hotplug"},
      Fields::Unknown::kIgnored);
  HOB_CHECK(fields.finish());
  const Json* source = fields.find("boot-source");
  const Json* drives = fields.find("drives");
  if (source == nullptr || drives == nullptr)
    return fail(Code::kInvalid, "{}",
                Fields::missing(source == nullptr ? "boot-source" : "drives"));
  if (const Json* logger = fields.find("logger"); logger != nullptr && !logger->is_null()) {
    HOB_TRY(const LoggerUpdate update, read_logger(*logger));
    HOB_CHECK(prefixed(logger_.update(update), "Logger error"));
  }
  if (const Json* metrics = fields.find("metrics"); metrics != nullptr && !metrics->is_null()) {
    HOB_TRY(MetricsOptions options, read_metrics(*metrics));
    HOB_CHECK(prefixed(start_metrics(std::move(options)), "Metrics error"));
  }
  if (const Json* machine = fields.find("machine-config");
      machine != nullptr && !machine->is_null()) {
    HOB_TRY(const MachineRequest request, read_machine(*machine));
    HOB_CHECK(set_machine(request.machine, request.cpu_template));
  }
  if (const Json* cpu = fields.find("cpu-config"); cpu != nullptr && !cpu->is_null())
    HOB_CHECK(set_cpu_from_file(*cpu));
  HOB_TRY(BootSource boot, read_boot_source(*source));
  HOB_CHECK(prefixed(set_boot_source(std::move(boot)), "Boot source error"));
  const auto* list = drives->as<Json::Array>();
  if (list == nullptr) return fail(Code::kInvalid, "`drives` is no list");
  for (const Json& entry : *list) {
    HOB_TRY(Drive drive, read_drive(entry));
    HOB_CHECK(check_id(drive.id));
    HOB_CHECK(prefixed(set_drive(std::move(drive)), "Drive config error"));
  }
  if (const Json* interfaces = fields.find("network-interfaces"))
    HOB_CHECK(set_interfaces(*interfaces));
  if (const Json* balloon = fields.find("balloon"); balloon != nullptr && !balloon->is_null()) {
    HOB_TRY(const BalloonOptions options, read_balloon(*balloon));
    HOB_CHECK(prefixed(set_balloon(options), "Balloon config error"));
  }
  if (const Json* vsock = fields.find("vsock"); vsock != nullptr && !vsock->is_null()) {
    HOB_TRY(VsockConfiguration configuration, read_vsock(*vsock));
    HOB_CHECK(prefixed(set_vsock(std::move(configuration)), "Vsock config error"));
  }
  if (const Json* mmds = fields.find("mmds-config"); mmds != nullptr && !mmds->is_null()) {
    HOB_TRY(MmdsConfiguration configuration, read_mmds(*mmds));
    HOB_CHECK(prefixed(set_mmds(std::move(configuration)), "MMMDS config error"));
  }
  if (const Json* entropy = fields.find("entropy"); entropy != nullptr && !entropy->is_null()) {
    HOB_TRY(const RateLimiterOptions limit, read_entropy(*entropy));
    HOB_CHECK(prefixed(set_entropy(limit), "Entropy config error"));
  }
  if (const Json* pmems = fields.find("pmem")) HOB_CHECK(set_pmems(*pmems));
  if (const Json* hot_plug = fields.find("memory-hotplug");
      hot_plug != nullptr && !hot_plug->is_null()) {
    HOB_TRY(const HotPlugOptions options, read_hot_plug(*hot_plug));
    HOB_CHECK(prefixed(set_hot_plug(options), "Memory hotplug config error"));
  }
  return prefixed(start(), "Start microvm error");
}

}  // namespace hob::microvm
