// How hob-vmm is used: its configuration, and the command that starts a task in one. Here alone.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace hob::sandbox {

struct VmmPlan {
  int vcpus = 1;
  int memory_mib = 0;  // of the machine
  std::string tap{};   // the device of the task's network; empty: none
  std::string mac{};
};

// vm.json. Files are named as they are in the jail (microvm_layout.h). The scratch disk is the
// guest's /dev/vda, the image /dev/vdb.
std::string vmm_configuration(const VmmPlan& plan);

struct VmmPrograms {
  std::filesystem::path run{};  // hob-vm-run
  std::filesystem::path jailer{};
  std::filesystem::path vmm{};
};
// What a task's hob-vmm has of the host: these, its bundle's files (microvm_layout.h), the devices
// for KVM and taps.
struct VmmJail {
  uint32_t user = 0;                          // its user and group, nobody else's
  int file_mib_max = 0;                       // the largest file that it can make
  std::filesystem::path network_namespace{};  // where the tap is; empty: one of its own, with none
  std::filesystem::path kernel{};             // these three to read, by everybody
  std::filesystem::path initrd{};
  std::filesystem::path image{};                 // an EROFS
  std::vector<std::filesystem::path> cgroups{};  // their cgroup.procs
};
// The runtime that hob-monitor starts.
std::vector<std::string> vmm_runtime(const VmmPrograms& programs,
                                     const std::filesystem::path& bundle,
                                     const std::filesystem::path& pid_file, const VmmJail& jail);

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
