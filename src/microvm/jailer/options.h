// hob-jailer's command line, as Firecracker's jailer has it. Pure.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hob::microvm {

// "cpu.shares=512": what is written into the cgroup's file of that name.
struct CgroupValue {
  std::string controller{};  // "cpu"
  std::string file{};        // "cpu.shares"
  std::string value{};
};

struct JailerOptions {
  std::string id{};    // 1 to 64 letters, digits, '-'
  std::string file{};  // the monitor's program
  uid_t uid = 0;
  gid_t gid = 0;
  std::string base = "/srv/jailer";
  int cgroup_version = 1;  // or 2
  std::vector<CgroupValue> cgroups{};
  std::string parent_cgroup{};  // by default the file's name; without '..'
  std::string network_namespace{};
  std::optional<uint64_t> file_bytes_max{};  // fsize
  uint64_t files_max = 2048;                 // no-file
  bool daemonize = false;
  bool new_pid_namespace = false;
  std::vector<std::string> rest{};  // the monitor's own arguments

  std::string file_name() const;  // without its folders
};

// kInvalid, with what is wrong.
Result<JailerOptions> read_jailer_options(const std::vector<std::string_view>& arguments);

}  // namespace hob::microvm
