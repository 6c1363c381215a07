// A task's OCI runtime bundle: config.json as crun reads it. Pure.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "guest/image_user.h"
#include "sandbox/cgroups.h"
#include "sandbox/mounts.h"

namespace hob::sandbox {

struct BundlePlan {
  std::vector<std::string> arguments{};
  std::vector<std::string> environment{};
  std::string working_directory = "/";
  guest::ImageUser user{};
  std::string host_name{};
  TaskMounts mounts{};
  std::map<std::string, std::filesystem::path>
      files{};  // in the container → on the host: mounted over, read-only
  std::filesystem::path network_namespace{};
  uint32_t first_id = 0;
  std::string cgroup_path{};
  CgroupVersion cgroup_version = CgroupVersion::kV2;
  bool swap_accounted = true;  // whether the host can limit swap
  int cpu = 0;                 // 1/1024 vCPU
  int memory_mib = 0;
  int processes_max = 0;
  int64_t open_files_max = 0;
};

// Docker's defaults throughout: capabilities, seccomp, masked and read-only paths, devices,
// /dev/shm of 64 MiB.
std::string bundle_config(const BundlePlan& plan);

}  // namespace hob::sandbox
