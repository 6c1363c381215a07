// The sandbox contract, as tests: what a frozen task does not do, and how it goes on.
#pragma once

#include <array>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "sandbox/sandbox_suite.h"

namespace hob::sandbox {

class SleepSuite : public SandboxSuite {
 protected:
  TaskSpec server() { return task({"/bin/httpd", "-f", "-p", "80", "-h", "/var/www"}); }
  TaskSpec spinner() { return script("while true; do n=$((n+1)); done"); }
  // All CPU that a task has used, in the kernel's own unit.
  static std::string cpu_used(const std::string& task) {
    return shell("cat /sys/fs/cgroup/cpuacct/hob-" + instance() + "/" + task +
                 "/cpuacct.usage 2>/dev/null || grep usage_usec /sys/fs/cgroup/hob-" + instance() +
                 "/" + task + "/cpu.stat");
  }
  // Returns when the task has used some more; the test runs into ctest's time-out if it never does.
  static void await_cpu(const std::string& task) {
    const std::string before = cpu_used(task);
    while (cpu_used(task) == before) ::usleep(1'000);
  }
  void start(const TaskSpec& spec) {
    const auto started = agent_->start(spec);
    ASSERT_TRUE(started.has_value()) << started.error().message;
  }
  void freeze(const TaskSpec& spec) {
    const auto frozen = agent_->freeze(spec.task);
    ASSERT_TRUE(frozen.has_value()) << frozen.error().message;
  }
  void thaw(const TaskSpec& spec) {
    const auto thawed = agent_->thaw(spec.task);
    ASSERT_TRUE(thawed.has_value()) << thawed.error().message;
  }
};

TEST_P(SleepSuite, AFrozenTaskUsesNoCpuAndGoesOn) {
  // Many processes, all running.
  const TaskSpec spec =
      script("for i in 1 2 3 4 5 6 7 8; do (while true; do n=$((n+1)); done) & done; wait");
  ASSERT_NO_FATAL_FAILURE(start(spec));
  await_cpu(spec.task);
  ASSERT_NO_FATAL_FAILURE(freeze(spec));
  const std::string frozen_at = cpu_used(spec.task);
  EXPECT_EQ(run(script("i=0; while [ $i -lt 10000 ]; do i=$((i+1)); done; echo done")).output,
            "done\n")
      << "others run";
  EXPECT_EQ(cpu_used(spec.task), frozen_at);
  ASSERT_NO_FATAL_FAILURE(freeze(spec)) << "twice";
  ASSERT_NO_FATAL_FAILURE(thaw(spec));
  await_cpu(spec.task);
  ASSERT_NO_FATAL_FAILURE(thaw(spec)) << "twice";
}

TEST_P(SleepSuite, ConnectionsWaitForAFrozenServer) {
  const TaskSpec spec = server();
  ASSERT_NO_FATAL_FAILURE(start(spec));
  EXPECT_NE(fetch(spec.address, 80).find("hello"), std::string::npos);
  for (int round = 0; round < 20; ++round) {
    ASSERT_NO_FATAL_FAILURE(freeze(spec));
    std::array<Result<Asked>, 3> waiting{ask(spec.address, 80), ask(spec.address, 80),
                                         ask(spec.address, 80)};
    ASSERT_NO_FATAL_FAILURE(thaw(spec));
    for (const auto& connection : waiting) {
      ASSERT_TRUE(connection.has_value()) << connection.error().message;
      EXPECT_NE(answer_on(*connection).find("hello"), std::string::npos) << round;
    }
  }
}

TEST_P(SleepSuite, AThawCallsOffAFreezeUnderWay) {
  const TaskSpec spec = spinner();
  ASSERT_NO_FATAL_FAILURE(start(spec));
  for (int round = 0; round < 50; ++round) {
    // Both begin before either ends; the thaw is the later one.
    const auto both = [](Sandbox& sandbox, std::string task) -> Async<Result<void>> {
      AsyncScope scope(co_await boost::asio::this_coro::executor);
      Result<void> frozen;
      scope.spawn("freeze", [&]() -> Async<> { frozen = co_await sandbox.freeze(task); });
      co_await boost::asio::post(scope.executor(), boost::asio::use_awaitable);
      Result<void> thawed = co_await sandbox.thaw(task);
      co_await scope.join();
      if (!frozen && frozen.error().code != Code::kCancelled) co_return frozen;
      co_return thawed;
    };
    const Result<void> done = agent_->run(both(agent_->sandbox(), spec.task));
    ASSERT_TRUE(done.has_value()) << done.error().message;
    await_cpu(spec.task);
  }
}

TEST_P(SleepSuite, ASignalWakesAndIsHeard) {
  const TaskSpec spec =
      script("trap 'echo caught; exit 3' TERM; echo ready; while true; do sleep 0.01; done");
  ASSERT_NO_FATAL_FAILURE(start(spec));
  while (output(spec.task).find("ready") == std::string::npos) ::usleep(2'000);
  ASSERT_NO_FATAL_FAILURE(freeze(spec));
  ASSERT_TRUE(agent_->signal(spec.task, SIGTERM).has_value());
  EXPECT_EQ(agent_->wait(spec.task).value().exit_code, 3);
  ASSERT_NO_FATAL_FAILURE(freeze(spec)) << "one that has ended is no error";
  ASSERT_NO_FATAL_FAILURE(thaw(spec));

  const TaskSpec killed = spinner();
  ASSERT_NO_FATAL_FAILURE(start(killed));
  ASSERT_NO_FATAL_FAILURE(freeze(killed));
  ASSERT_TRUE(agent_->signal(killed.task, SIGKILL).has_value());
  EXPECT_EQ(agent_->wait(killed.task).value().exit_code, 137);
}

TEST_P(SleepSuite, WhatIsFrozenCanBeRemoved) {
  const TaskSpec spec = spinner();
  ASSERT_NO_FATAL_FAILURE(start(spec));
  ASSERT_NO_FATAL_FAILURE(freeze(spec));
  ASSERT_TRUE(agent_->remove(spec.task).has_value());
  EXPECT_EQ(agent_->freeze(spec.task).error().code, Code::kNotFound);
  EXPECT_EQ(agent_->thaw(spec.task).error().code, Code::kNotFound);
  // The next of its name begins awake.
  ASSERT_NO_FATAL_FAILURE(start(spec));
  await_cpu(spec.task);
}

TEST_P(SleepSuite, AFrozenTaskOutlivesItsAgent) {
  const TaskSpec asleep = server();
  const TaskSpec awake = server();
  for (const TaskSpec& spec : {asleep, awake}) {
    ASSERT_NO_FATAL_FAILURE(start(spec));
    EXPECT_NE(fetch(spec.address, 80).find("hello"), std::string::npos);
  }
  ASSERT_NO_FATAL_FAILURE(freeze(asleep));
  agent_.reset();
  ASSERT_NO_FATAL_FAILURE(restart_agent());
  EXPECT_EQ(agent_->adopt().value(),
            (std::vector<AdoptedTask>{{.task = asleep.task, .frozen = true},
                                      {.task = awake.task, .frozen = false}}));
  const Result<Asked> waiting = ask(asleep.address, 80);
  ASSERT_TRUE(waiting.has_value()) << waiting.error().message;
  ASSERT_NO_FATAL_FAILURE(thaw(asleep));
  EXPECT_NE(answer_on(*waiting).find("hello"), std::string::npos);
}

// An agent killed at any instant between a freeze and a thaw leaves a task that is one or the
// other.
TEST_P(SleepSuite, AKilledAgentLeavesATaskFrozenOrAwake) {
  const TaskSpec spec = spinner();
  ASSERT_NO_FATAL_FAILURE(start(spec));
  for (int step = 0; step < 8; ++step) {
    agent_.reset();
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      Agent doomed(GetParam(), place_);
      if (!doomed.open()) ::_exit(1);
      while (doomed.freeze(spec.task) && doomed.thaw(spec.task)) {
      }
      ::_exit(1);
    }
    ::usleep(static_cast<useconds_t>(20'000 + 1'700 * step));
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status)) << "it ended by itself: a freeze or a thaw failed";
    ASSERT_NO_FATAL_FAILURE(restart_agent());
    const std::vector<AdoptedTask> adopted = agent_->adopt().value();
    ASSERT_EQ(adopted.size(), 1u);
    if (adopted.front().frozen) {
      const std::string frozen_at = cpu_used(spec.task);
      EXPECT_EQ(cpu_used(spec.task), frozen_at) << step;
      ASSERT_NO_FATAL_FAILURE(thaw(spec));
    }
    await_cpu(spec.task);
  }
}

}  // namespace hob::sandbox
