// The freezer of both versions, on cgroups and processes of the test's own. A hybrid host has both:
// its version 2 tree has no controllers, and every cgroup of version 2 can be frozen.
#include "sandbox/freezer.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/magic.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <string>
#include <thread>
#include <vector>

namespace hob::sandbox {
namespace {

namespace fs = std::filesystem;

struct Place {
  const char* name = "";
  CgroupVersion version = CgroupVersion::kV1;
};

// Where this machine has that version; empty: it does not.
fs::path mount_of(CgroupVersion version) {
  const long wanted = version == CgroupVersion::kV2 ? CGROUP2_SUPER_MAGIC : CGROUP_SUPER_MAGIC;
  for (const char* path : {"/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/freezer"}) {
    struct statfs info {};
    if (::statfs(path, &info) == 0 && static_cast<long>(info.f_type) == wanted) return path;
  }
  return {};
}

class FreezerTest : public ::testing::TestWithParam<Place> {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
    const fs::path mount = mount_of(GetParam().version);
    if (mount.empty()) GTEST_SKIP() << "this machine does not have it";
    cgroup_ = mount / ("hob-freezer-test-" + std::to_string(::getpid()));
    ASSERT_EQ(::mkdir(cgroup_.c_str(), 0755), 0);
  }
  void TearDown() override {
    if (cgroup_.empty()) return;
    for (const pid_t child : children_) ::kill(child, SIGKILL);
    EXPECT_TRUE(Freezer(GetParam().version, cgroup_).thaw().has_value());
    for (const pid_t child : children_) ::waitpid(child, nullptr, 0);
    while (::rmdir(cgroup_.c_str()) != 0) {
      ASSERT_EQ(errno, EBUSY);
    }
  }
  // A process in the cgroup that writes into `count_` as fast as it can.
  void spawn_counter() {
    if (!count_) {
      int ends[2];
      ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
      count_ = Fd(ends[0]);
      counts_ = Fd(ends[1]);
    }
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      std::ofstream(cgroup_ / "cgroup.procs") << ::getpid() << std::flush;
      while (::write(counts_.get(), "x", 1) == 1) {
      }
      ::_exit(0);
    }
    children_.push_back(child);
  }
  // Waits for what it writes.
  void expect_runs() {
    char one = 0;
    drain();
    EXPECT_EQ(::read(count_.get(), &one, 1), 1);
  }
  // Nothing comes once what was written before is read.
  void expect_stands() {
    drain();
    EXPECT_EQ(drain(), 0u);
  }
  size_t drain() {
    const int flags = ::fcntl(count_.get(), F_GETFL);
    ::fcntl(count_.get(), F_SETFL, flags | O_NONBLOCK);
    size_t all = 0;
    char bytes[65536];
    // As much as a pipe can hold at once: a running writer would fill it without end.
    for (ssize_t got = 0;
         all < 1024 * 1024 && (got = ::read(count_.get(), bytes, sizeof bytes)) > 0;)
      all += static_cast<size_t>(got);
    ::fcntl(count_.get(), F_SETFL, flags);
    return all;
  }
  Freezer::State state(const Freezer& freezer) { return freezer.state().value(); }

  fs::path cgroup_;
  Fd count_, counts_;
  std::vector<pid_t> children_;
};

TEST_P(FreezerTest, StopsAndLetsGoOn) {
  Freezer freezer(GetParam().version, cgroup_);
  for (int i = 0; i < 10; ++i) ASSERT_NO_FATAL_FAILURE(spawn_counter());
  expect_runs();
  for (int round = 0; round < 10; ++round) {
    freezer.ask_freeze();
    const Result<void> frozen = freezer.freeze();
    ASSERT_TRUE(frozen.has_value()) << frozen.error().message;
    EXPECT_EQ(state(freezer), Freezer::State::kFrozen);
    expect_stands();
    ASSERT_TRUE(freezer.thaw().has_value());
    expect_runs();
    EXPECT_EQ(state(freezer), Freezer::State::kThawed);
  }
}

TEST_P(FreezerTest, AThawInBetweenCallsItOff) {
  Freezer freezer(GetParam().version, cgroup_);
  ASSERT_NO_FATAL_FAILURE(spawn_counter());
  EXPECT_EQ(freezer.freeze().error().code, Code::kCancelled) << "not asked for";
  freezer.ask_freeze();
  ASSERT_TRUE(freezer.thaw().has_value());
  EXPECT_EQ(freezer.freeze().error().code, Code::kCancelled);
  expect_runs();
  // From another thread, at any instant.
  for (int round = 0; round < 100; ++round) {
    freezer.ask_freeze();
    std::thread freezing([&] {
      const Result<void> frozen = freezer.freeze();
      EXPECT_TRUE(frozen || frozen.error().code == Code::kCancelled) << frozen.error().message;
    });
    EXPECT_TRUE(freezer.thaw().has_value());
    freezing.join();
    expect_runs();
  }
}

TEST_P(FreezerTest, ACgroupThatIsGone) {
  Freezer freezer(GetParam().version, cgroup_ / "nobody");
  freezer.ask_freeze();
  EXPECT_EQ(freezer.freeze().error().code, Code::kNotFound);
  EXPECT_TRUE(freezer.thaw().has_value());
  EXPECT_EQ(freezer.state().error().code, Code::kNotFound);
}

INSTANTIATE_TEST_SUITE_P(Cgroups, FreezerTest,
                         ::testing::Values(Place{"Version1", CgroupVersion::kV1},
                                           Place{"Version2", CgroupVersion::kV2}),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace hob::sandbox
