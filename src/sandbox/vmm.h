// How hob-vmm is used: its configuration, and the command that starts a task in one. Here alone.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace hob::sandbox {

struct VmmPlan {
  std::filesystem::path kernel{};
  std::filesystem::path initrd{};
  std::filesystem::path image{};  // an EROFS, read by the guest only: /dev/vdb; the scratch is vda
  int vcpus = 1;
  int memory_mib = 0;  // of the machine
  std::string tap{};   // the device of the task's network; empty: none
  std::string mac{};
};

// vm.json. Files that lie in the task's bundle are named relative to it.
std::string vmm_configuration(const VmmPlan& plan);

struct VmmPrograms {
  std::filesystem::path run{};  // hob-vm-run
  std::filesystem::path vmm{};
};
// The runtime that hob-monitor starts. `network_namespace`: where the tap is; empty: none.
std::vector<std::string> vmm_runtime(const VmmPrograms& programs,
                                     const std::filesystem::path& bundle,
                                     const std::filesystem::path& pid_file,
                                     const std::filesystem::path& network_namespace,
                                     const std::vector<std::filesystem::path>& cgroups);

// What a task's machine has and what it costs the host, both in MiB. A guest's kernel and init take
// some 40, and 1/64 of the memory for its tables; the monitor itself a few.
inline constexpr int kGuestOverheadMib = 48;
inline constexpr int kVmmOverheadMib = 16;
constexpr int machine_memory_mib(int task_mib) {
  return task_mib + kGuestOverheadMib + task_mib / 32;
}
constexpr int host_memory_mib(int task_mib) {
  return machine_memory_mib(task_mib) + kVmmOverheadMib;
}

}  // namespace hob::sandbox
