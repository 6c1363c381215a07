#include "sandbox/freezer.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <string_view>
#include <thread>

#include "base/file.h"
#include "base/log.h"
#include "sandbox/limits.h"

namespace hob::sandbox {

namespace {

constexpr size_t kStateBytesMax = 4096;
// A process that was running stands still at its next interrupt; one in the kernel later.
constexpr Duration kStepMin{1};
constexpr Duration kStepMax{10};

Result<void> write_order(const std::filesystem::path& path, std::string_view order) {
  const Fd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file) return fail_errno(errno, "opening " + path.string());
  if (::write(file.get(), order.data(), order.size()) < 0) {
    // The cgroup was removed after the file was opened.
    if (errno == ENODEV) return fail(Code::kNotFound, "{}: the cgroup is gone", path.string());
    return fail_errno(errno, "writing " + path.string());
  }
  return {};
}

}  // namespace

Freezer::Freezer(CgroupVersion version, std::filesystem::path cgroup)
    : version_(version),
      order_(cgroup / (version == CgroupVersion::kV2 ? "cgroup.freeze" : "freezer.state")),
      events_(cgroup / (version == CgroupVersion::kV2 ? "cgroup.events" : "freezer.state")) {}

Result<bool> Freezer::order_freeze() {
  const std::lock_guard lock(mutex_);
  if (!wanted_) return false;
  HOB_CHECK(write_order(order_, version_ == CgroupVersion::kV2 ? "1" : "FROZEN"));
  return true;
}

Result<void> Freezer::thaw() {
  const std::lock_guard lock(mutex_);
  wanted_ = false;
  Result<void> done = write_order(order_, version_ == CgroupVersion::kV2 ? "0" : "THAWED");
  if (!done && done.error().code == Code::kNotFound) return {};
  return done;
}

Result<Freezer::State> Freezer::state() const {
  HOB_TRY(const std::string text, read_file(events_, kStateBytesMax));
  if (version_ == CgroupVersion::kV1) {
    if (text.starts_with("FROZEN")) return State::kFrozen;
    return text.starts_with("FREEZING") ? State::kFreezing : State::kThawed;
  }
  if (text.contains("frozen 1")) return State::kFrozen;
  HOB_TRY(const std::string ordered, read_file(order_, kStateBytesMax));
  return ordered.starts_with('1') ? State::kFreezing : State::kThawed;
}

Result<void> Freezer::wait(const Fd& events, Duration step) const {
  if (version_ == CgroupVersion::kV1) {
    std::this_thread::sleep_for(step);
    return {};
  }
  // A change since `events` was last read ends the wait at once. Not longer than the step, to
  // notice a thaw and to give the order again.
  pollfd waiting{.fd = events.get(), .events = POLLPRI, .revents = 0};
  if (::poll(&waiting, 1, static_cast<int>(step.count())) < 0 && errno != EINTR)
    return fail_errno(errno, "waiting for " + events_.string());
  char seen[kStateBytesMax];
  if (::pread(events.get(), seen, sizeof seen, 0) < 0)
    return fail_errno(errno, "reading " + events_.string());
  return {};
}

void Freezer::ask_freeze() {
  const std::lock_guard lock(mutex_);
  wanted_ = true;
}

Result<void> Freezer::stand_still() {
  const auto until = std::chrono::steady_clock::now() + kFreezeTimeout;
  const Fd events(::open(events_.c_str(), O_RDONLY | O_CLOEXEC));
  if (!events) return fail_errno(errno, "opening " + events_.string());
  for (Duration step = kStepMin;; step = std::min(2 * step, kStepMax)) {
    // Each time round: a process that was moved here while it froze would hold up the rest.
    HOB_TRY(const bool wanted, order_freeze());
    if (!wanted) return fail(Code::kCancelled, "it was thawed while it froze");
    HOB_TRY(const State now, state());
    if (now == State::kFrozen) return {};
    if (std::chrono::steady_clock::now() > until) {
      return fail(Code::kTimeout, "a process did not stand still within {} ms",
                  kFreezeTimeout.count());
    }
    HOB_CHECK(wait(events, step));
  }
}

Result<void> Freezer::freeze() {
  const Result<void> done = stand_still();
  if (done || done.error().code == Code::kCancelled) return done;
  // Half frozen would be worse than awake: some of it would answer, some not.
  if (const Result<void> undone = thaw(); !undone) {
    log::error("a task may be left half frozen",
               {{"cgroup", order_.parent_path().string()}, {"error", undone.error().message}});
  }
  std::error_code ignored;
  if (!std::filesystem::exists(order_, ignored))
    return fail(Code::kNotFound, "{} is gone", order_.parent_path().string());
  return done;
}

}  // namespace hob::sandbox
