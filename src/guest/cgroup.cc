#include "guest/cgroup.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>

#include "base/file.h"

namespace hob::guest {
namespace {

constexpr const char* kTree = "/sys/fs/cgroup";
constexpr int64_t kPeriodMicroseconds = 100'000;
constexpr int64_t kQuotaMicrosecondsMin = 1'000;  // the kernel's
constexpr int64_t kCpuUnits = 1'024;

std::string folder(int index) { return fmt::format("{}/container-{}", kTree, index); }

Result<void> put(const std::string& path, std::string_view text) {
  const Fd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file || ::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()))
    return fail_errno(errno, "writing " + path);
  return {};
}

}  // namespace

Result<void> mount_cgroups() {
  if (::mount("cgroup", kTree, "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) != 0)
    return fail_errno(errno, "mounting cgroups");
  return put(fmt::format("{}/cgroup.subtree_control", kTree), "+cpu +memory +pids");
}

Result<void> make_cgroup(int index, const Container& container) {
  const std::string own = folder(index);
  if (::mkdir(own.c_str(), 0755) != 0) return fail_errno(errno, "making " + own);
  if (container.memory_bytes > 0) {
    HOB_CHECK(put(own + "/memory.max", std::to_string(container.memory_bytes)));
    // As a whole or not at all: what is left of a container whose process was killed helps nobody.
    HOB_CHECK(put(own + "/memory.oom.group", "1"));
  }
  if (container.processes_max > 0)
    HOB_CHECK(put(own + "/pids.max", std::to_string(container.processes_max)));
  if (container.cpu > 0) {
    const int64_t quota =
        std::max(kQuotaMicrosecondsMin, container.cpu * kPeriodMicroseconds / kCpuUnits);
    HOB_CHECK(put(own + "/cpu.max", fmt::format("{} {}", quota, kPeriodMicroseconds)));
  }
  return {};
}

Result<void> join_cgroup(int index) { return put(folder(index) + "/cgroup.procs", "0"); }

bool was_out_of_memory(int index) {
  const auto events = read_file(folder(index) + "/memory.events", 4096);
  if (!events) return false;
  constexpr std::string_view kField = "oom_kill ";
  const size_t at = events->find(kField);
  uint64_t count = 0;
  if (at != std::string::npos)
    std::from_chars(events->data() + at + kField.size(), events->data() + events->size(), count);
  return count > 0;
}

void kill_cgroup(int index) { static_cast<void>(put(folder(index) + "/cgroup.kill", "1")); }

}  // namespace hob::guest
