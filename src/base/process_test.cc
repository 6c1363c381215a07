#include "base/process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <cstdlib>

#include "base/testing_loop.h"

namespace hob {
namespace {

using namespace std::chrono_literals;

Command shell(std::string script) { return {.argv = {"/bin/sh", "-c", std::move(script)}}; }

TEST(Process, GivesStatusAndOutput) {
  testing::run_loop([](Executor) -> Async<> {
    Command command = shell("cat; echo out; echo err >&2; exit 3");
    command.input = "in\n";
    const Result<Exit> exit = co_await run(command, 10s);
    EXPECT_TRUE(exit.has_value());
    if (!exit) co_return;
    EXPECT_EQ(exit->status, 3);
    EXPECT_EQ(exit->output, "in\nout\n");
    EXPECT_EQ(exit->errors, "err\n");
    const Result<Exit> blocking = run_blocking(command, 10s);
    EXPECT_TRUE(blocking.has_value());
    if (blocking) EXPECT_EQ(blocking->output, "in\nout\n");
    const Result<Exit> killed = co_await run(shell("kill -9 $$"), 10s);
    EXPECT_TRUE(killed && killed->status == 137);
  });
}

TEST(Process, SaysWhatIsMissing) {
  testing::run_loop([](Executor) -> Async<> {
    const Result<Exit> exit = co_await run({.argv = {"no-such-program-anywhere"}}, 10s);
    EXPECT_FALSE(exit.has_value());
    if (!exit) EXPECT_EQ(exit.error().code, Code::kNotFound);
    const Result<std::string> failed =
        co_await run_ok(shell("echo one; echo two >&2; exit 1"), 10s);
    EXPECT_FALSE(failed.has_value());
    if (!failed) EXPECT_EQ(failed.error().message, "/bin/sh ended with status 1: two");
    const Result<std::string> fine = co_await run_ok(shell("echo one"), 10s);
    EXPECT_TRUE(fine && *fine == "one\n");
  });
}

TEST(Process, KeepsSoMuchOutputAndReadsTheRest) {
  const Result<Exit> exit =
      run_blocking(shell("head -c 3000000 /dev/zero; head -c 10 /dev/zero >&2"), 20s);
  ASSERT_TRUE(exit.has_value());
  EXPECT_EQ(exit->status, 0);
  EXPECT_EQ(exit->output.size(), kOutputBytesMax);
  EXPECT_EQ(exit->errors.size(), 10u);
}

// The process whose id a script printed runs no more; init may take its time to reap it.
bool is_gone(const std::string& pid) {
  for (int i = 0; i < 5000; ++i) {
    const Result<std::string> status =
        read_file("/proc/" + std::to_string(std::atoi(pid.c_str())) + "/stat", 4096);
    if (!status || status->find(") Z ") != std::string::npos) return true;
    ::usleep(1000);
  }
  return false;
}

TEST(Process, KillsTheWholeGroupAfterTheTimeout) {
  testing::run_loop([](Executor) -> Async<> {
    std::string path = "/tmp/hob-process-test-XXXXXX";
    const Fd file(::mkstemp(path.data()));
    const Result<Exit> exit = co_await run(shell("sleep 100 & echo $! >" + path + "; wait"), 200ms);
    EXPECT_FALSE(exit.has_value());
    if (!exit) EXPECT_EQ(exit.error().code, Code::kTimeout);
    const Result<std::string> pid = read_file(path, 100);
    EXPECT_TRUE(pid && is_gone(*pid));
    ::unlink(path.c_str());
  });
  const Result<Exit> blocking = run_blocking(shell("sleep 100"), 20ms);
  EXPECT_FALSE(blocking.has_value());
}

TEST(Process, IsKilledWhenItsCallerIsCancelled) {
  testing::run_loop([](Executor executor) -> Async<> {
    AsyncScope scope(executor);
    scope.spawn("child", []() -> Async<> {
      (void)co_await run(shell("exec sleep 1000"), 1h);
      ADD_FAILURE();
    });
    co_await sleep_for(20ms);
    scope.cancel();
    co_await scope.join();
  });
}

TEST(Process, DoesNotWaitForWhatItLeavesBehind) {
  const Result<Exit> exit = run_blocking(shell("setsid sleep 2 & echo done"), 60s);
  ASSERT_TRUE(exit.has_value());
  EXPECT_EQ(exit->output, "done\n");
}

TEST(Process, PassesOnlyTheDescriptorsItIsTold) {
  const Fd open_file(::open("/dev/null", O_RDONLY));  // not close-on-exec: would be inherited
  const Fd given(::open("/dev/zero", O_RDONLY | O_CLOEXEC));
  Command command = shell("ls -l /proc/self/fd | awk '{print $9 $10 $11}' | tr '\\n' ' '");
  command.fds = {{given.get(), 7}};
  const Result<Exit> exit = run_blocking(command, 10s);
  ASSERT_TRUE(exit.has_value());
  EXPECT_NE(exit->output.find("7->/dev/zero"), std::string::npos) << exit->output;
  // Nothing of ours but that: 0, 1, 2, 7, and what ls opened itself.
  EXPECT_EQ(exit->output.find(std::to_string(open_file.get()) + "->/dev/null"), std::string::npos)
      << exit->output;
}

TEST(Process, SetsEnvironmentAndDirectory) {
  Command command = shell("echo $NAME $HOME; pwd");
  command.environment = std::map<std::string, std::string>{{"NAME", "value"}};
  command.directory = "/usr";
  const Result<Exit> exit = run_blocking(command, 10s);
  ASSERT_TRUE(exit.has_value());
  EXPECT_EQ(exit->output, "value\n/usr\n");
}

}  // namespace
}  // namespace hob
