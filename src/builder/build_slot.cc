#include "builder/build_slot.h"

#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>

#include "base/digest.h"
#include "base/log.h"
#include "builder/build_sandbox.h"

namespace hob::builder {

namespace {

constexpr size_t kInstanceDigits = 6;
constexpr const char* kTask = "00000000000000000000000000000001";
constexpr const char* kAddress = "198.18.0.4";
constexpr const char* kGateway = "198.18.0.1";

}  // namespace

Result<std::unique_ptr<BuildSlot>> BuildSlot::take(const std::filesystem::path& state) {
  for (int number = 0; number < kBuildsAtOnce; ++number) {
    HOB_TRY(std::unique_ptr<BuildSlot> slot, lock(state, number));
    if (!slot) continue;
    HOB_CHECK(context(slot->set_up(), "making the build's network"));
    clear_idle(state);
    return slot;
  }
  return fail(Code::kLimit, "{} builds run already; try again when one has ended", kBuildsAtOnce);
}

Result<std::unique_ptr<BuildSlot>> BuildSlot::lock(const std::filesystem::path& state, int number) {
  std::unique_ptr<BuildSlot> slot(new BuildSlot());
  slot->directory_ = state / "slots" / std::to_string(number);
  HOB_CHECK(make_directories(slot->directory_, 0700));
  const std::filesystem::path file = slot->directory_ / "lock";
  slot->lock_ = Fd(::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!slot->lock_) return fail_errno(errno, "opening " + file.string());
  if (::flock(slot->lock_.get(), LOCK_EX | LOCK_NB) != 0) return std::unique_ptr<BuildSlot>();
  const std::string name =
      fmt::format("build {} {}", std::filesystem::absolute(state).string(), number);
  slot->instance_ = hex(sha256(name)).substr(0, kInstanceDigits);
  slot->vpc_ = std::make_unique<network::Vpc>(network::VpcOptions{
      .instance = slot->instance_, .run_directory = slot->directory_ / "network"});
  return slot;
}

void BuildSlot::clear_idle(const std::filesystem::path& state) {
  const std::atomic<bool> never = false;
  for (int number = 0; number < kBuildsAtOnce; ++number) {
    std::error_code ignored;
    if (!std::filesystem::exists(state / "slots" / std::to_string(number), ignored)) continue;
    const Result<std::unique_ptr<BuildSlot>> slot = lock(state, number);
    if (!slot || !*slot) continue;  // somebody's
    const auto cleared = BuildSandbox::open(
        {.directory = (*slot)->directory_, .instance = (*slot)->instance_}, never);
    if (!cleared) {
      log::warn("what a killed build left is not gone", {{"error", cleared.error().message}});
    }
  }
}

Result<void> BuildSlot::set_up() {
  HOB_CHECK(vpc_->tear_down());  // what a killed build left
  HOB_CHECK(vpc_->set_up());
  HOB_TRY(network_namespace_,
          vpc_->attach({.task = kTask, .address = kAddress, .gateway = kGateway}));
  return {};
}

BuildSlot::~BuildSlot() {
  if (!vpc_) return;
  if (const Result<void> gone = vpc_->tear_down(); !gone) {
    log::warn("a build's network is not gone", {{"error", gone.error().message}});
  }
}

}  // namespace hob::builder
