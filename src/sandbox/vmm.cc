#include "sandbox/vmm.h"

#include <boost/json.hpp>

#include "guest/protocol.h"
#include "sandbox/microvm_layout.h"

namespace hob::sandbox {

namespace json = boost::json;

namespace {

constexpr const char* kBootArguments =
    "console=ttyS0 8250.nr_uarts=1 reboot=k panic=-1 quiet loglevel=1 i8042.noaux i8042.nomux "
    "i8042.dumbkbd";

json::object drive(const char* id, const char* path, bool read_only) {
  return {{"drive_id", id},
          {"is_root_device", false},
          {"path_on_host", path},
          {"is_read_only", read_only}};
}

}  // namespace

std::string vmm_configuration(const VmmPlan& plan) {
  json::object configuration = {
      {"boot-source",
       {{"kernel_image_path", kKernelFile},
        {"initrd_path", kInitrdFile},
        {"boot_args", kBootArguments}}},
      {"machine-config", {{"vcpu_count", plan.vcpus}, {"mem_size_mib", plan.memory_mib}}},
      {"drives",
       json::array{drive("scratch", kScratchFile, false), drive("image", kImageFile, true)}},
      {"vsock", {{"guest_cid", guest::kGuestCid}, {"uds_path", kVsockFile}}}};
  if (!plan.tap.empty()) {
    configuration["network-interfaces"] = json::array{
        json::object{{"iface_id", "eth0"}, {"host_dev_name", plan.tap}, {"guest_mac", plan.mac}}};
  }
  return json::serialize(configuration);
}

std::vector<std::string> vmm_runtime(const VmmPrograms& programs,
                                     const std::filesystem::path& bundle,
                                     const std::filesystem::path& pid_file, const VmmJail& jail) {
  std::vector<std::string> words = {programs.run,
                                    bundle,
                                    pid_file,
                                    programs.jailer,
                                    programs.vmm,
                                    std::to_string(jail.user),
                                    std::to_string(int64_t{jail.file_mib_max} << 20),
                                    jail.network_namespace.empty() ? "-" : jail.network_namespace,
                                    jail.kernel,
                                    jail.initrd,
                                    jail.image};
  words.insert(words.end(), jail.cgroups.begin(), jail.cgroups.end());
  return words;
}

}  // namespace hob::sandbox
