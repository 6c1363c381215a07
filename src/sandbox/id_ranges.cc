#include "sandbox/id_ranges.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <functional>

#include "base/file.h"
#include "sandbox/limits.h"

namespace hob::sandbox {

namespace {
namespace fs = std::filesystem;
constexpr int kDirectoryRetriesMax =
    8;  // another instance may remove the empty directory in between
}  // namespace

static_assert(uint64_t{kIdRangeFirst} + uint64_t{kIdRangeCount} * kIdRangeSize <=
              (uint64_t{1} << 31));

IdRanges::IdRanges(fs::path shared_directory, std::string instance)
    : directory_(std::move(shared_directory) / "ids"), instance_(std::move(instance)) {}

Result<uint32_t> IdRanges::claim(const std::string& task) {
  const std::string content = instance_ + " " + task;
  // Begins at a place of the task's own, so that a range is not handed from one task straight to
  // the next.
  const size_t start = std::hash<std::string>{}(task) % kIdRangeCount;
  int retries = 0;
  for (uint32_t step = 0; step < kIdRangeCount; ++step) {
    const uint32_t first =
        kIdRangeFirst + static_cast<uint32_t>((start + step) % kIdRangeCount) * kIdRangeSize;
    const fs::path file = directory_ / std::to_string(first);
    if (::symlink(content.c_str(), file.c_str()) == 0) return first;
    if (errno == EEXIST) continue;
    if (errno == ENOENT && ++retries <= kDirectoryRetriesMax) {
      HOB_CHECK(make_directories(directory_.parent_path(), 0700));
      HOB_CHECK(make_directories(directory_, 0700));
      --step;  // the same one again
      continue;
    }
    return fail_errno(errno, "claiming ids at " + file.string());
  }
  return fail(Code::kLimit, "all {} ranges of user ids of this machine are in use", kIdRangeCount);
}

Result<void> IdRanges::release_if(const auto& wanted) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(directory_, error)) {
    std::error_code ignored;
    const std::string content = fs::read_symlink(entry.path(), ignored).string();
    if (!content.starts_with(instance_ + " ")) continue;
    if (wanted(content.substr(instance_.size() + 1)) && ::unlink(entry.path().c_str()) != 0 &&
        errno != ENOENT) {
      return fail_errno(errno, "removing " + entry.path().string());
    }
  }
  ::rmdir(directory_.c_str());  // when it is empty; claim() makes it again
  ::rmdir(directory_.parent_path().c_str());
  return {};
}

Result<void> IdRanges::release(const std::string& task) {
  return release_if([&](const std::string& owner) { return owner == task; });
}

Result<void> IdRanges::release_others(const std::vector<std::string>& tasks) {
  return release_if(
      [&](const std::string& owner) { return std::ranges::find(tasks, owner) == tasks.end(); });
}

}  // namespace hob::sandbox
