#include "sandbox/bundle.h"

#include <boost/json.hpp>

#include "sandbox/limits.h"
#include "sandbox/seccomp_profile.h"

namespace hob::sandbox {

namespace json = boost::json;

namespace {

constexpr int64_t kCpuPeriodMicroseconds = 100'000;
constexpr int64_t kCpuQuotaMicrosecondsMin = 1'000;  // the kernel's
constexpr int64_t kCpuUnitsPerCpu = 1'024;
constexpr int64_t kMiB = 1024 * 1024;

json::array capabilities() {
  return {"CAP_AUDIT_WRITE", "CAP_CHOWN",   "CAP_DAC_OVERRIDE",     "CAP_FOWNER",    "CAP_FSETID",
          "CAP_KILL",        "CAP_MKNOD",   "CAP_NET_BIND_SERVICE", "CAP_NET_RAW",   "CAP_SETFCAP",
          "CAP_SETGID",      "CAP_SETPCAP", "CAP_SETUID",           "CAP_SYS_CHROOT"};
}

json::array strings(const std::vector<std::string>& words) {
  json::array result;
  for (const std::string& word : words) result.emplace_back(word);
  return result;
}

json::object mount(const char* destination, const char* type, const std::string& source,
                   json::array options) {
  return {{"destination", destination},
          {"type", type},
          {"source", source},
          {"options", std::move(options)}};
}

json::array mounts(const BundlePlan& plan) {
  json::array result = {
      mount("/proc", "proc", "proc", {"nosuid", "noexec", "nodev"}),
      mount("/dev", "tmpfs", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"}),
      mount("/dev/pts", "devpts", "devpts",
            {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}),
      mount("/sys", "bind", plan.mounts.sys, {"bind", "ro", "nosuid", "noexec", "nodev"}),
      mount("/sys/fs/cgroup", "cgroup", "cgroup", {"ro", "nosuid", "noexec", "nodev"}),
      mount("/dev/mqueue", "mqueue", "mqueue", {"nosuid", "noexec", "nodev"}),
      mount("/dev/shm", "tmpfs", "shm", {"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}),
  };
  for (const char* name : {"resolv.conf", "hosts", "hostname"}) {
    const std::string destination = fmt::format("/etc/{}", name);
    result.push_back(
        mount(destination.c_str(), "bind", plan.mounts.files / name, {"bind", "rprivate"}));
  }
  for (const auto& [destination, source] : plan.files) {
    result.push_back(
        mount(destination.c_str(), "bind", source, {"bind", "ro", "nosuid", "nodev", "rprivate"}));
  }
  return result;
}

json::object resources(const BundlePlan& plan) {
  const int64_t memory = plan.memory_mib * kMiB;
  json::object memory_limits = {{"limit", memory}};
  // The sum of memory and swap: no swap at all. Where swap is not accounted the field would make
  // crun fail.
  if (plan.swap_accounted) memory_limits["swap"] = memory;
  const int64_t quota =
      std::max(kCpuQuotaMicrosecondsMin, plan.cpu * kCpuPeriodMicroseconds / kCpuUnitsPerCpu);
  return {
      {"memory", std::move(memory_limits)},
      {"cpu",
       {{"quota", quota}, {"period", kCpuPeriodMicroseconds}, {"shares", std::max(2, plan.cpu)}}},
      {"pids", {{"limit", plan.processes_max}}},
      {"devices", json::array{json::object{{"allow", false}, {"access", "rwm"}}}}};
}

json::object process(const BundlePlan& plan) {
  json::array groups;
  for (const uint32_t group : plan.user.groups) groups.emplace_back(group);
  return {
      {"terminal", false},
      {"user",
       {{"uid", plan.user.user}, {"gid", plan.user.group}, {"additionalGids", std::move(groups)}}},
      {"args", strings(plan.arguments)},
      {"env", strings(plan.environment)},
      {"cwd", plan.working_directory},
      {"capabilities",
       {{"bounding", capabilities()},
        {"effective", capabilities()},
        {"permitted", capabilities()}}},
      {"rlimits", json::array{json::object{{"type", "RLIMIT_NOFILE"},
                                           {"hard", plan.open_files_max},
                                           {"soft", plan.open_files_max}}}},
      // Off, as Docker and Fargate have it: sudo and su work in images that use them.
      {"noNewPrivileges", false}};
}

}  // namespace

std::string bundle_config(const BundlePlan& plan) {
  json::array namespaces;
  for (const char* type : {"pid", "ipc", "uts", "mount", "user", "cgroup"}) {
    namespaces.push_back(json::object{{"type", type}});
  }
  namespaces.push_back(
      json::object{{"type", "network"}, {"path", plan.network_namespace.string()}});
  const json::array ids = {
      json::object{{"containerID", 0}, {"hostID", plan.first_id}, {"size", kIdRangeSize}}};
  const json::object config = {
      {"ociVersion", "1.0.2"},
      {"process", process(plan)},
      {"root", {{"path", plan.mounts.root.string()}, {"readonly", false}}},
      {"hostname", plan.host_name},
      {"mounts", mounts(plan)},
      {"linux",
       {{"uidMappings", ids},
        {"gidMappings", ids},
        {"cgroupsPath", plan.cgroup_path},
        {"namespaces", std::move(namespaces)},
        {"resources", resources(plan)},
        {"seccomp", seccomp_profile()},
        {"maskedPaths",
         json::array{"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
                     "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list",
                     "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware"}},
        {"readonlyPaths",
         json::array{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}}}}};
  return json::serialize(config);
}

}  // namespace hob::sandbox
