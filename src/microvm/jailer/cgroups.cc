// Control groups of both versions.
#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <map>
#include <sstream>

#include "base/file.h"
#include "microvm/jailer/jail.h"

namespace hob::microvm {
namespace {

constexpr size_t kMountsBytesMax = 1 << 20;
constexpr size_t kCgroupFileBytesMax = 64 << 10;
constexpr mode_t kFolderMode = 0755;

Result<void> write_value(const std::string& path, std::string_view value) {
  const Fd file(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file) return fail_errno(errno, "opening " + path);
  if (write(file.get(), value.data(), value.size()) != static_cast<ssize_t>(value.size()))
    return fail_errno(errno, fmt::format("writing '{}' to {}", value, path));
  return {};
}

Result<void> make_folder(const std::string& path) {
  if (mkdir(path.c_str(), kFolderMode) < 0 && errno != EEXIST)
    return fail_errno(errno, "making " + path);
  return {};
}

// Where the hierarchy is mounted: of version 2, or of version 1 with that controller.
Result<std::string> mount_of(int version, const std::string& controller) {
  HOB_TRY(const std::string mounts, read_file("/proc/mounts", kMountsBytesMax));
  std::istringstream lines(mounts);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string source, folder, type, options;
    words >> source >> folder >> type >> options;
    if (version == 2 && type == "cgroup2") return folder;
    if (version == 1 && type == "cgroup" && ("," + options + ",").contains("," + controller + ","))
      return folder;
  }
  return version == 2 ? Result<std::string>(fail(Code::kNotFound, "no cgroup2 is mounted"))
                      : fail(Code::kNotFound, "no cgroup of {} is mounted", controller);
}

// Each folder of `relative` in turn, from the one in `folder` on.
template <class Each>
Result<std::string> descend(std::string folder, std::string_view relative, Each each) {
  while (!relative.empty()) {
    const size_t slash = relative.find('/');
    const std::string_view name = relative.substr(0, slash);
    relative = slash == std::string_view::npos ? std::string_view() : relative.substr(slash + 1);
    if (name.empty()) continue;
    HOB_CHECK(each(folder));
    folder += "/" + std::string(name);
    HOB_CHECK(make_folder(folder));
  }
  return folder;
}

// A cpuset without CPUs and memory takes nobody in: it gets its parent's (version 1).
Result<void> inherit_cpuset(const std::string& folder, const std::string& parent) {
  for (const std::string_view file : {"/cpuset.cpus", "/cpuset.mems"}) {
    HOB_TRY(const std::string own, read_file(folder + std::string(file), kCgroupFileBytesMax));
    if (own.find_first_not_of(" \n") != std::string::npos) continue;
    HOB_TRY(const std::string given, read_file(parent + std::string(file), kCgroupFileBytesMax));
    HOB_CHECK(write_value(folder + std::string(file), given));
  }
  return {};
}

Result<void> enter_first(const JailerOptions& options) {
  std::map<std::string, std::vector<const CgroupValue*>> controllers;
  for (const CgroupValue& value : options.cgroups) controllers[value.controller].push_back(&value);
  for (const auto& [controller, values] : controllers) {
    HOB_TRY(const std::string mount, mount_of(1, controller));
    std::string parent;
    HOB_TRY(const std::string folder,
            descend(mount, options.parent_cgroup + "/" + options.id,
                    [&, name = controller](const std::string& above) -> Result<void> {
                      if (name == "cpuset" && !parent.empty())
                        HOB_CHECK(inherit_cpuset(above, parent));
                      parent = above;
                      return {};
                    }));
    if (controller == "cpuset") HOB_CHECK(inherit_cpuset(folder, parent));
    for (const CgroupValue* value : values)
      HOB_CHECK(write_value(folder + "/" + value->file, value->value));
    HOB_CHECK(write_value(folder + "/cgroup.procs", "0"));
  }
  return {};
}

Result<void> enter_second(const JailerOptions& options) {
  HOB_TRY(const std::string mount, mount_of(2, ""));
  const std::string parent = mount + "/" + options.parent_cgroup;
  if (options.cgroups.empty()) {
    // Firecracker's rule: with nothing to set, into the parent, if it is there.
    struct stat status {};
    if (stat(parent.c_str(), &status) < 0) return {};
    return write_value(parent + "/cgroup.procs", "0");
  }
  HOB_TRY(
      const std::string folder,
      descend(mount, options.parent_cgroup + "/" + options.id,
              [&](const std::string& above) -> Result<void> {
                for (const CgroupValue& value : options.cgroups)
                  HOB_CHECK(write_value(above + "/cgroup.subtree_control", "+" + value.controller));
                return {};
              }));
  for (const CgroupValue& value : options.cgroups)
    HOB_CHECK(write_value(folder + "/" + value.file, value.value));
  return write_value(folder + "/cgroup.procs", "0");
}

}  // namespace

Result<void> enter_cgroups(const JailerOptions& options) {
  return options.cgroup_version == 2 ? enter_second(options) : enter_first(options);
}

}  // namespace hob::microvm
