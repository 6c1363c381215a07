// Steps over the smallest root file system, busybox, without a network outside: what commands may
// do to a build.
#include "builder/build_sandbox.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <thread>

#include "base/process.h"
#include "builder/build_slot.h"
#include "builder/layer.h"
#include "builder/testing_directory.h"

namespace hob::builder {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

class BuildSandboxTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
    const fs::path root = place_.path() / "layer";
    ASSERT_TRUE(run_blocking(
        {.argv =
             {"/bin/sh", "-c",
              "set -e; mkdir -p $0/bin $0/tmp $0/root $0/app; cp /bin/busybox $0/bin/; for a in sh "
              "cat sleep true false echo yes dd rm mknod tr id; do ln -s busybox "
              "$0/bin/$a; done",
              root.string()}},
        30s));
    Result<std::unique_ptr<BuildSlot>> slot = BuildSlot::take(place_.path() / "state");
    ASSERT_TRUE(slot) << slot.error().message;
    slot_ = std::move(*slot);
    open({});
  }
  void TearDown() override {
    if (!slot_) return;
    const std::string instance = slot_->instance();
    sandbox_.reset();
    slot_.reset();
    // What the kernel clears behind a namespace's last process may still be on its way out.
    std::string left = "?";
    for (int i = 0; i < 100 && !left.empty(); ++i) left = remains(instance);
    EXPECT_EQ(left, "") << "left on the machine";
  }
  std::string remains(const std::string& instance) const {
    const Result<Exit> exit = run_blocking(
        {.argv = {"/bin/sh", "-c",
                  "(cat /proc/self/mountinfo; losetup -a; find /sys/fs/cgroup -name 'hob-*'; ls -d "
                  "/run/hob-*; ip -o link; nft list tables) 2>/dev/null | grep -e hob-" +
                      instance + " -e " + place_.path().string()}},
        30s);
    return exit ? exit->output : exit.error().message;
  }
  void open(BuildLimits limits) {
    limits.memory_mib = 64;
    limits.disk_mib = 64;
    limits.processes_max = 48;
    sandbox_.reset();
    Result<std::unique_ptr<BuildSandbox>> sandbox =
        BuildSandbox::open({.directory = slot_->directory(),
                            .instance = slot_->instance(),
                            .network_namespace = slot_->network_namespace(),
                            .limits = limits},
                           cancelled_);
    ASSERT_TRUE(sandbox) << sandbox.error().message;
    sandbox_ = std::move(*sandbox);
  }
  StepEnd run(std::vector<std::string> commands) {
    lines_.clear();
    kept_ = false;
    const Result<StepEnd> end = sandbox_->run(
        {.layers = {place_.path() / "layer"},
         .commands = std::move(commands),
         .environment = {{"GREETING", "hello"}},
         .working_directory = "/app"},
        [&](std::string_view line) { lines_.emplace_back(line); },
        [&](const StepFiles& files) -> Result<void> {
          kept_ = true;
          first_id_ = files.first_id;
          std::error_code error;
          wrote_ = fs::exists(files.upper / "app/wrote", error);
          return {};
        });
    EXPECT_TRUE(end) << end.error().message;
    return end.value_or(StepEnd{.exit_code = -1});
  }

  TestDirectory place_;
  std::atomic<bool> cancelled_ = false;
  std::unique_ptr<BuildSlot> slot_;
  std::unique_ptr<BuildSandbox> sandbox_;
  std::vector<std::string> lines_;
  bool kept_ = false;
  bool wrote_ = false;
  uint32_t first_id_ = 0;
};

TEST_F(BuildSandboxTest, CommandsRunInTurnAndLeaveTheirFiles) {
  const StepEnd end = run({"echo $GREETING; cd /tmp", "echo more > wrote; id -u; cat wrote"});
  EXPECT_EQ(end.exit_code, 0);
  EXPECT_EQ(lines_, (std::vector<std::string>{"hello", "0", "more"}));
  EXPECT_TRUE(kept_);
  EXPECT_TRUE(wrote_) << "in the working directory, whatever the command before did";
  EXPECT_GE(first_id_, 65'536U) << "root inside is nobody outside";
}

TEST_F(BuildSandboxTest, TheFirstThatFailsEndsIt) {
  const StepEnd end = run({"true", "echo sorry; (exit 7)", "echo never"});
  EXPECT_EQ(end.exit_code, 7);
  EXPECT_EQ(end.failed_command, 1U);
  EXPECT_EQ(lines_.front(), "sorry");
  EXPECT_FALSE(kept_);
}

TEST_F(BuildSandboxTest, ACommandThatHangsIsEndedInTime) {
  open({.step_within = 1s});
  const StepEnd end = run({"trap '' TERM; echo begun; sleep 1000 & sleep 1000"});
  EXPECT_TRUE(end.out_of_time);
  EXPECT_NE(end.exit_code, 0);
  EXPECT_EQ(lines_, std::vector<std::string>{"begun"});
}

TEST_F(BuildSandboxTest, AForkBombHarmsOnlyItself) {
  open({.step_within = 3s});
  const StepEnd end = run({"bomb() { bomb | bomb & }; bomb; sleep 1000"});
  EXPECT_NE(end.exit_code, 0);
  EXPECT_FALSE(kept_);
  EXPECT_EQ(run({"echo well"}).exit_code, 0);
}

TEST_F(BuildSandboxTest, AFullDiskIsTheStepsOwn) {
  const StepEnd end = run({"dd if=/dev/zero of=/app/fill bs=1M count=1000"});
  EXPECT_NE(end.exit_code, 0);
  EXPECT_EQ(run({"dd if=/dev/zero of=/app/some bs=1M count=8"}).exit_code, 0);
}

TEST_F(BuildSandboxTest, FilesWithoutEndAreTheStepsOwn) {
  const StepEnd end =
      run({"n=0; while [ $n -lt 200000 ]; do n=$((n+1)); : > /app/$n || exit 1; done"});
  EXPECT_NE(end.exit_code, 0);
  EXPECT_FALSE(kept_);
  EXPECT_EQ(run({": > /app/one"}).exit_code, 0);
}

TEST_F(BuildSandboxTest, TooMuchMemoryIsSaid) {
  const StepEnd end = run({"dd if=/dev/zero of=/dev/null bs=512M count=1"});
  EXPECT_NE(end.exit_code, 0);
  EXPECT_TRUE(end.out_of_memory);
}

TEST_F(BuildSandboxTest, WhatPrintsForEverIsCountedAndEnded) {
  open({.step_within = 2s, .log_bytes_max = 10'000});
  const StepEnd end = run({"yes"});
  EXPECT_TRUE(end.out_of_time);
  EXPECT_LE(lines_.size(), 5'001U);
  EXPECT_TRUE(lines_.back().ends_with("bytes more were left out"));
}

TEST_F(BuildSandboxTest, WhatIsLeftRunningDoesNotHoldIt) {
  const StepEnd end = run({"sleep 1000 & echo started > wrote"});
  EXPECT_EQ(end.exit_code, 0);
  EXPECT_TRUE(wrote_);
}

TEST_F(BuildSandboxTest, ClosingItsOutputDoesNotHideACommand) {
  open({.step_within = 1s});
  EXPECT_TRUE(run({"exec >&- 2>&-; sleep 1000"}).out_of_time);
}

// The step's name is in the first process's arguments, for all inside to read.
TEST_F(BuildSandboxTest, AForgedMarkChangesNothing) {
  const std::string name =
      "for word in $(tr '\\0' ' ' < /proc/1/cmdline); do [ ${#word} = 32 ] && mark=$word; done; ";
  StepEnd end = run({name + "echo \"$mark 0 9\"; echo ${#mark}"});
  EXPECT_EQ(end.exit_code, 0) << "all did well, whatever they say";
  EXPECT_EQ(lines_, std::vector<std::string>{"32"});
  EXPECT_TRUE(kept_);
  end = run({"true", name + "echo \"$mark 0 0\"; exit 3"});
  EXPECT_EQ(end.exit_code, 3);
  EXPECT_EQ(end.failed_command, 1U);
  end = run({name + "echo \"$mark 4000000000 -5\"; kill -9 1; exit 3"});
  EXPECT_EQ(end.exit_code, 3);
  EXPECT_EQ(end.failed_command, 0U);
  open({.log_bytes_max = 100});
  run({name + "for i in 1 2 3 4 5 6 7 8 9; do echo \"$mark says what it wants\"; done"});
  EXPECT_TRUE(lines_.empty()) << "it is no way around the limit";
}

TEST_F(BuildSandboxTest, ACancelledStepEnds) {
  std::thread cancels([&] { cancelled_.store(true); });
  const Result<StepEnd> end =
      sandbox_->run({.layers = {place_.path() / "layer"}, .commands = {"sleep 1000"}},
                    [](std::string_view) {}, {});
  cancels.join();
  ASSERT_FALSE(end);
  EXPECT_EQ(end.error().code, Code::kCancelled);
}

TEST_F(BuildSandboxTest, TheMachineIsNotSeen) {
  const StepEnd end = run({"! cat /etc/shadow 2>/dev/null",
                           "for p in /proc/[0-9]*; do n=$((n+1)); done; [ $n -lt 10 ]",
                           "! mknod /app/disk b 8 0 2>/dev/null"});
  EXPECT_EQ(end.exit_code, 0) << end.failed_command;
}

}  // namespace
}  // namespace hob::builder
