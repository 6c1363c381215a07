#include "host/agent.h"

#include <gtest/gtest.h>

#include <fstream>

#include "host/agent_world.h"

namespace hob::host {
namespace {

using namespace std::chrono_literals;
using link::Health;
using link::StopCode;
using link::TaskStatus;
using namespace testing;

TEST(Agent, RunsATaskAndReportsItHealthy) {
  in_world([](World& w) -> Async<> {
    w.control.put(assignment("web"));
    co_await w.control.until_health(kTask, Health::kHealthy);
    const link::TaskReport report = w.control.reports[kTask];
    EXPECT_EQ(report.status, TaskStatus::kRunning);
    EXPECT_EQ(report.image_digest, "sha256:of-web");
    EXPECT_TRUE(report.started_at && report.pull_started_at && report.pull_stopped_at);
    EXPECT_EQ(w.control.hello.zone, "us-east-1a");
    EXPECT_GT(w.control.hello.cpu, 0);
    EXPECT_GT(w.control.hello.memory_mib, 0);
    EXPECT_NE(w.metrics.render().find("hob_host_tasks 1\n"), std::string::npos);
  });
}

TEST(Agent, WithoutAProbeATaskIsHealthyWhenItRuns) {
  in_world([](World& w) -> Async<> {
    link::Assignment without = assignment("web");
    without.probe.reset();
    w.control.put(without);
    co_await w.control.until_health(kTask, Health::kHealthy);
  });
}

TEST(Agent, SaysWhyAnImageWasNotPulled) {
  in_world([](World& w) -> Async<> {
    w.machine.missing = {"nothing"};
    w.control.put(assignment("nothing"));
    co_await w.control.until_status(kTask, TaskStatus::kStopped);
    EXPECT_EQ(w.control.reports[kTask].stop_code, StopCode::kTaskFailedToStart);
    EXPECT_EQ(w.control.reports[kTask].reason, "CannotPullContainerError: nothing: not found");
    EXPECT_EQ(w.control.reports[kTask].permanent, true);
    EXPECT_EQ(w.machine.networks(), 0u);
  });
}

TEST(Agent, TriesAgainWhenTheRegistryCannotBeReached) {
  in_world([](World& w) -> Async<> {
    w.machine.pulls_unavailable = 2;
    w.control.put(assignment("web"));
    co_await w.control.until_health(kTask, Health::kHealthy);
  });
}

TEST(Agent, SaysWhyAContainerDidNotStart) {
  in_world([](World& w) -> Async<> {
    w.machine.without_start = {"broken"};
    w.control.put(assignment("broken"));
    co_await w.control.until_status(kTask, TaskStatus::kStopped);
    EXPECT_EQ(w.control.reports[kTask].stop_code, StopCode::kTaskFailedToStart);
    EXPECT_EQ(w.control.reports[kTask].reason, "CannotStartContainerError: exec: no such file");
    EXPECT_EQ(w.machine.networks(), 0u);
  });
}

TEST(Agent, ReportsATaskThatExitsAtOnce) {
  in_world([](World& w) -> Async<> {
    w.machine.exit_at_once = {"crash"};
    w.control.put(assignment("crash"));
    co_await w.control.until_status(kTask, TaskStatus::kStopped);
    const link::TaskReport report = w.control.reports[kTask];
    EXPECT_EQ(report.stop_code, StopCode::kEssentialContainerExited);
    EXPECT_EQ(report.reason, "Essential container in task exited");
    EXPECT_EQ(report.exit_code, 3);
    EXPECT_EQ(report.last_lines, std::vector<std::string>{"start 1"});
    EXPECT_EQ(w.machine.starts(kTask.value), 1);
    EXPECT_EQ(w.machine.containers(), 0u);
  });
}

TEST(Agent, ReportsOutOfMemory) {
  in_world([](World& w) -> Async<> {
    w.machine.silent = {"eater"};
    w.control.put(assignment("eater"));
    co_await w.control.until_status(kTask, TaskStatus::kRunning);
    w.machine.end(kTask.value, {.exit_code = 137, .out_of_memory = true});
    co_await w.control.until_status(kTask, TaskStatus::kStopped);
    EXPECT_EQ(w.control.reports[kTask].reason,
              "OutOfMemoryError: Container killed due to memory usage");
    EXPECT_EQ(w.control.reports[kTask].exit_code, 137);
  });
}

TEST(Agent, SaysWhatWasTriedWhenATaskNeverBecomesHealthy) {
  in_world([](World& w) -> Async<> {
    w.machine.silent = {"elsewhere"};
    w.control.put(assignment("elsewhere"));
    co_await w.control.until_health(kTask, Health::kUnhealthy);
    co_await w.control.until("the last lines",
                             [&] { return !w.control.reports[kTask].last_lines.empty(); });
    const link::TaskReport report = w.control.reports[kTask];
    EXPECT_EQ(report.status, TaskStatus::kRunning);
    EXPECT_EQ(report.reason,
              "Task failed container health checks: TCP connect to port 8080: Connection refused; "
              "nothing listens on "
              "port 8080; the container listens on port 3000: hob deploy --port 3000");
    EXPECT_EQ(report.last_lines, std::vector<std::string>{"start 1"});
    EXPECT_EQ(report.permanent, true) << "it serves elsewhere";
  });
}

TEST(Agent, StopsATaskWithSigterm) {
  in_world([](World& w) -> Async<> {
    w.control.put(assignment("web"));
    co_await w.control.until_health(kTask, Health::kHealthy);
    w.control.stop_task(kTask);
    co_await w.control.until_status(kTask, TaskStatus::kStopped);
    EXPECT_EQ(w.machine.signals(), std::vector<int>{15});
    EXPECT_EQ(w.control.reports[kTask].stop_code, StopCode::kServiceSchedulerInitiated);
    EXPECT_EQ(w.control.reports[kTask].exit_code, 143);
    EXPECT_EQ(w.machine.containers(), 0u);
    EXPECT_EQ(w.machine.networks(), 0u);
    w.control.remove(kTask);
    co_await w.control.until("the log is gone", [&] { return !w.machine.has_log(kTask.value); });
    EXPECT_EQ(w.control.lines["instance/" + kTask.value], std::vector<std::string>{"start 1"});
  });
}

TEST(Agent, KillsATaskThatIgnoresSigterm) {
  in_world([](World& w) -> Async<> {
    w.machine.deaf = {"deaf"};
    link::Assignment deaf = assignment("deaf");
    deaf.stop_timeout = 30ms;
    w.control.put(deaf);
    co_await w.control.until_health(kTask, Health::kHealthy);
    w.control.stop_task(kTask);
    co_await w.control.until_status(kTask, TaskStatus::kStopped);
    EXPECT_EQ(w.machine.signals(), (std::vector<int>{15, 9}));
    EXPECT_EQ(w.control.reports[kTask].exit_code, 137);
  });
}

TEST(Agent, AbandonsAPullOfATaskThatIsNotWanted) {
  in_world([](World& w) -> Async<> {
    w.machine.pull_gate().reset();
    w.control.put(assignment("web"));
    co_await w.control.until_status(kTask, TaskStatus::kActivating);
    w.control.stop_task(kTask);
    co_await w.control.until_status(kTask, TaskStatus::kStopped);
    EXPECT_EQ(w.machine.starts(kTask.value), 0);
    EXPECT_EQ(w.machine.networks(), 0u);
  });
}

TEST(Agent, RefusesATaskOfTwoContainers) {
  in_world([](World& w) -> Async<> {
    link::Assignment two = assignment("web");
    two.containers.push_back(two.containers.front());
    w.control.put(two);
    co_await w.control.until_status(kTask, TaskStatus::kStopped);
    EXPECT_EQ(w.control.reports[kTask].stop_code, StopCode::kTaskFailedToStart);
    EXPECT_EQ(w.machine.starts(kTask.value), 0);
  });
}

TEST(Agent, RestartsWhatWasHealthyWithControlGone) {
  in_world([](World& w) -> Async<> {
    w.control.put(assignment("web"));
    co_await w.control.until_health(kTask, Health::kHealthy);
    co_await w.control.stop();
    w.machine.end(kTask.value, {.exit_code = 1});
    co_await w.control.until("a second start", [&] { return w.machine.starts(kTask.value) == 2; });
    w.control.start();
    co_await w.control.until("the restart is reported", [&] {
      return w.control.reports[kTask].restarts == 1 &&
             w.control.reports[kTask].health == Health::kHealthy;
    });
    EXPECT_EQ(w.control.reports[kTask].status, TaskStatus::kRunning);
    EXPECT_EQ(w.control.links, 2);
    EXPECT_EQ(w.control.reports[kTask].reason, "");
  });
}

TEST(Agent, EndsWhatMustNotBeRestarted) {
  in_world([](World& w) -> Async<> {
    link::Assignment once = assignment("web");
    once.restart = false;
    w.control.put(once);
    co_await w.control.until_health(kTask, Health::kHealthy);
    w.machine.end(kTask.value, {.exit_code = 0});
    co_await w.control.until_status(kTask, TaskStatus::kStopped);
    EXPECT_EQ(w.control.reports[kTask].stop_code, StopCode::kEssentialContainerExited);
    EXPECT_EQ(w.control.reports[kTask].exit_code, 0);
  });
}

TEST(Agent, AdoptsWhatRanOn) {
  in_world([](World& w) -> Async<> {
    w.control.put(assignment("web"));
    co_await w.control.until_health(kTask, Health::kHealthy);
    const std::optional<Instant> started_at = w.control.reports[kTask].started_at;
    co_await w.stop_agent();
    EXPECT_TRUE(w.machine.runs(kTask.value));
    co_await w.control.until("the link is lost", [&] { return w.control.links == 1; });
    co_await w.start_agent();
    co_await w.control.until("a new link", [&] { return w.control.first_healths.size() == 2; });
    // Never anything but healthy: a new agent takes no task out of the routes.
    EXPECT_EQ(w.control.first_healths.back(), Health::kHealthy);
    EXPECT_EQ(w.control.reports[kTask].started_at, started_at);
    EXPECT_EQ(w.machine.starts(kTask.value), 1);
  });
}

TEST(Agent, RestartsWhatEndedWhileItWasAway) {
  in_world([](World& w) -> Async<> {
    w.control.put(assignment("web"));
    co_await w.control.until_health(kTask, Health::kHealthy);
    co_await w.stop_agent();
    w.machine.end(kTask.value, {.exit_code = 1});
    co_await w.start_agent();
    co_await w.control.until("a second start", [&] { return w.machine.starts(kTask.value) == 2; });
    co_await w.control.until("healthy again",
                             [&] { return w.control.reports[kTask].restarts == 1; });
  });
}

TEST(Agent, StartsAgainWhatIsGoneWithoutATrace) {  // the machine was switched off
  in_world([](World& w) -> Async<> {
    w.control.put(assignment("web"));
    co_await w.control.until_health(kTask, Health::kHealthy);
    co_await w.stop_agent();
    (void)co_await w.machine.remove(kTask.value);
    (void)co_await w.machine.detach(kTask.value);
    co_await w.start_agent();
    co_await w.control.until("a second start", [&] { return w.machine.starts(kTask.value) == 2; });
  });
}

TEST(Agent, RemovesWhatIsNobodys) {
  hob::testing::run_loop([](Executor executor) -> Async<> {
    World w(executor);
    w.machine.plant("99998888777766665555444433332222");
    w.control.start();
    co_await w.start_agent();
    EXPECT_EQ(w.machine.containers(), 0u);
    EXPECT_EQ(w.machine.networks(), 0u);
    co_await w.stop_agent();
    co_await w.control.stop();
  });
}

TEST(Agent, StopsWhatControlNoLongerLists) {
  in_world([](World& w) -> Async<> {
    w.control.put(assignment("web"));
    co_await w.control.until_health(kTask, Health::kHealthy);
    co_await w.control.stop();
    w.control.assignments.clear();
    w.control.start();
    co_await w.control.until(
        "it is gone", [&] { return !w.machine.has(kTask.value) && w.machine.networks() == 0; });
    co_await w.control.until("its record is gone",
                             [&] { return std::filesystem::is_empty(w.directory / "tasks"); });
  });
}

TEST(Agent, EmptiesTheHost) {
  in_world([](World& w) -> Async<> {
    const TaskId other{"00001111222233334444555566667777"};
    w.machine.deaf = {"deaf"};
    link::Assignment deaf = assignment("deaf", other);
    deaf.stop_timeout = 20ms;
    w.control.put(assignment("web"));
    w.control.put(deaf);
    co_await w.control.until_health(kTask, Health::kHealthy);
    co_await w.control.until_health(other, Health::kHealthy);
    co_await w.stop_agent(Agent::Tasks::kStop);
    EXPECT_EQ(w.machine.containers(), 0u);
    EXPECT_EQ(w.machine.networks(), 0u);
    EXPECT_TRUE(std::filesystem::is_empty(w.directory / "tasks"));
    EXPECT_FALSE(w.machine.has_log(kTask.value));
    // Not what control wanted: it is not told that they stopped.
    EXPECT_EQ(w.control.reports[kTask].status, TaskStatus::kRunning);
  });
}

TEST(Agent, ADamagedRecordEndsNoTaskAndControlTellsItAgain) {
  in_world([](World& w) -> Async<> {
    w.control.put(assignment("web"));
    co_await w.control.until_health(kTask, Health::kHealthy);
    co_await w.stop_agent();
    std::ofstream(w.directory / "tasks" / (kTask.value + ".json")) << "{\"assignment\": 7";
    w.control.reports.clear();
    co_await w.start_agent();
    co_await w.control.until_health(kTask, Health::kHealthy);
    EXPECT_EQ(w.machine.starts(kTask.value), 1);
  });
}

TEST(Agent, ShipsOutputOnceAndInOrder) {
  in_world([](World& w) -> Async<> {
    const std::string stream = "instance/" + kTask.value;
    w.control.put(assignment("web"));
    co_await w.control.until("the first line", [&] { return w.control.lines[stream].size() == 1; });
    // Not acknowledged, and the agent is gone and comes back: repeated with the same end, so not
    // stored twice.
    w.control.acknowledge = false;
    std::vector<std::string> want = {"start 1"};
    for (int i = 0; i < 100; ++i) {
      w.machine.print(kTask.value, "line " + std::to_string(i));
      want.push_back("line " + std::to_string(i));
    }
    co_await w.control.until("the next lines", [&] { return w.control.lines[stream].size() > 1; });
    co_await w.stop_agent();
    for (int i = 100; i < 200; ++i) {
      w.machine.print(kTask.value, "line " + std::to_string(i));
      want.push_back("line " + std::to_string(i));
    }
    w.control.acknowledge = true;
    co_await w.start_agent();
    co_await w.control.until("all lines",
                             [&] { return w.control.lines[stream].size() >= want.size(); });
    EXPECT_EQ(w.control.lines[stream], want);
  });
}

}  // namespace
}  // namespace hob::host
