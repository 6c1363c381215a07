// The agent and tasks that sleep: what edges say, what the machine does.
#include <gtest/gtest.h>

#include "host/agent_world.h"

namespace hob::host {
namespace {

using namespace std::chrono_literals;
using link::Health;
using link::TaskStatus;
using namespace testing;

TEST(AgentSleep, FreezesWhatWasReleasedAndThawsWhatIsHeld) {
  in_world([](World& w) -> Async<> {
    co_await w.run_for_long(assignment("web"));
    SimulatedEdge edge = w.edge();
    co_await edge.link({kTask});
    EXPECT_EQ((co_await edge.answer()).awake, std::vector<TaskId>{kTask});
    edge.release(kTask);
    co_await w.until_asleep(kTask);
    EXPECT_EQ(w.control.reports[kTask].status, TaskStatus::kRunning);
    EXPECT_EQ(w.control.reports[kTask].health, Health::kHealthy);
    EXPECT_NE(w.metrics.render().find("hob_host_tasks_asleep 1\n"), std::string::npos);
    edge.hold(kTask);
    EXPECT_EQ((co_await edge.answer()).awake, std::vector<TaskId>{kTask});
    EXPECT_FALSE(w.machine.is_frozen(kTask.value)) << "it is awake before it is called so";
    co_await w.until_asleep(kTask, false);
    edge.hold(kTask);
    EXPECT_EQ((co_await edge.answer()).awake, std::vector<TaskId>{kTask}) << "repeated";
    const std::string metrics = w.metrics.render();
    EXPECT_NE(metrics.find("hob_host_wakes_total 1\n"), std::string::npos);
    EXPECT_NE(metrics.find("hob_host_wake_duration_seconds_bucket{le=\"+Inf\"} 1\n"),
              std::string::npos);
    EXPECT_NE(metrics.find("hob_host_tasks_asleep 0\n"), std::string::npos);
    co_await edge.stop();
  });
}

TEST(AgentSleep, SleepsWithControlGone) {
  in_world([](World& w) -> Async<> {
    co_await w.run_for_long(assignment("web"));
    co_await w.control.stop();
    SimulatedEdge edge = w.edge();
    co_await edge.link({kTask});
    (void)co_await edge.answer();
    edge.release(kTask);
    co_await w.control.until("it sleeps", [&] { return w.machine.is_frozen(kTask.value); });
    edge.hold(kTask);
    EXPECT_EQ((co_await edge.answer()).awake, std::vector<TaskId>{kTask});
    edge.release(kTask);
    co_await w.control.until("it sleeps", [&] { return w.machine.is_frozen(kTask.value); });
    w.control.start();
    co_await w.control.until("control hears", [&] { return w.control.reports[kTask].asleep; });
    co_await edge.stop();
  });
}

TEST(AgentSleep, AHoldCallsOffAFreezeUnderWay) {
  in_world([](World& w) -> Async<> {
    co_await w.run_for_long(assignment("web"));
    SimulatedEdge edge = w.edge();
    co_await edge.link({kTask});
    (void)co_await edge.answer();
    w.machine.freeze_gate().reset();
    edge.release(kTask);
    edge.hold(kTask);
    EXPECT_EQ((co_await edge.answer()).awake, std::vector<TaskId>{kTask});
    w.machine.freeze_gate().set();
    edge.hold(kTask);
    EXPECT_EQ((co_await edge.answer()).awake, std::vector<TaskId>{kTask});
    EXPECT_FALSE(w.machine.is_frozen(kTask.value));
    co_await edge.stop();
  });
}

TEST(AgentSleep, AHoldIsAnsweredOnceTheTaskRuns) {
  in_world([](World& w) -> Async<> {
    const TaskId nobody{"00001111222233334444555566667777"};
    w.machine.pull_gate().reset();
    w.control.put(assignment("web"));
    co_await w.control.until_status(kTask, TaskStatus::kActivating);
    SimulatedEdge edge = w.edge();
    co_await edge.link({kTask, nobody});
    EXPECT_EQ((co_await edge.answer()).unknown, std::vector<TaskId>{nobody});
    w.machine.pull_gate().set();
    EXPECT_EQ((co_await edge.answer()).awake, std::vector<TaskId>{kTask});
    w.control.stop_task(kTask);
    co_await w.control.until_status(kTask, TaskStatus::kStopped);
    edge.hold(kTask);
    EXPECT_EQ((co_await edge.answer()).unknown, std::vector<TaskId>{kTask});
    co_await edge.stop();
  });
}

TEST(AgentSleep, AHoldOfWhatEndsBeforeItRunsIsAnswered) {
  in_world([](World& w) -> Async<> {
    w.machine.pull_gate().reset();
    w.control.put(assignment("web"));
    co_await w.control.until_status(kTask, TaskStatus::kActivating);
    SimulatedEdge edge = w.edge();
    co_await edge.link({});
    edge.hold(kTask);
    w.control.stop_task(kTask);
    EXPECT_EQ((co_await edge.answer()).unknown, std::vector<TaskId>{kTask});
    co_await edge.stop();
  });
}

TEST(AgentSleep, AnEdgeThatIsGoneHoldsForAWhile) {
  in_world([](World& w) -> Async<> {
    co_await w.run_for_long(assignment("web"));
    SimulatedEdge edge = w.edge("eeee");
    SimulatedEdge other = w.edge("ffff");
    co_await edge.link({kTask});
    (void)co_await edge.answer();
    co_await other.link({kTask});
    (void)co_await other.answer();
    co_await edge.unlink();
    co_await w.control.until("its end is seen", [&] {
      return w.metrics.render().find("hob_host_edges 1\n") != std::string::npos;
    });
    other.release(kTask);
    other.release(kTask);
    // It comes back before its hold has ended, and names it again: nothing has happened.
    co_await edge.link({kTask});
    EXPECT_EQ((co_await edge.answer()).awake, std::vector<TaskId>{kTask});
    EXPECT_FALSE(w.machine.is_frozen(kTask.value));
    // Gone for longer, its hold ends; the task sleeps, since another edge released it.
    co_await edge.unlink();
    co_await w.control.until("its end is seen", [&] {
      return w.metrics.render().find("hob_host_edges 1\n") != std::string::npos;
    });
    other.release(kTask);
    w.clock.pass(kHoldsKept);
    other.release(kTask);
    co_await w.until_asleep(kTask);
    // Back again, it does not name what it once held.
    co_await edge.link({});
    edge.hold(kTask);
    EXPECT_EQ((co_await edge.answer()).awake, std::vector<TaskId>{kTask});
    co_await edge.unlink();
    co_await edge.link({});
    co_await w.until_asleep(kTask);
    co_await edge.stop();
    co_await other.stop();
  });
}

TEST(AgentSleep, WhatAnAgentFindsStaysAsItIs) {
  in_world([](World& w) -> Async<> {
    const TaskId awake{"00001111222233334444555566667777"};
    co_await w.run_for_long(assignment("web"));
    co_await w.run_for_long(assignment("web", awake));
    SimulatedEdge edge = w.edge();
    co_await edge.link({kTask, awake});
    (void)co_await edge.answer();
    edge.release(kTask);
    co_await w.until_asleep(kTask);
    co_await w.stop_agent();
    w.control.reports.clear();
    co_await w.start_agent();
    co_await w.control.until("both are reported", [&] { return w.control.reports.size() == 2; });
    EXPECT_TRUE(w.control.reports[kTask].asleep);
    EXPECT_EQ(w.control.reports[kTask].health, Health::kHealthy);
    EXPECT_FALSE(w.control.reports[awake].asleep);
    co_await edge.stop();

    // Nothing is frozen until edges have had the time to say what they hold.
    SimulatedEdge again = w.edge();
    co_await again.link({kTask});
    again.release(awake);
    EXPECT_EQ((co_await again.answer()).awake, std::vector<TaskId>{kTask});
    EXPECT_FALSE(w.machine.is_frozen(awake.value));
    w.clock.pass(kHoldsKept);
    again.release(awake);
    co_await w.until_asleep(awake);
    co_await again.stop();
  });
}

TEST(AgentSleep, ProbesPauseAndGoOn) {
  in_world([](World& w) -> Async<> {
    co_await w.run_for_long(assignment("web"));
    SimulatedEdge edge = w.edge();
    co_await edge.link({kTask});
    (void)co_await edge.answer();
    for (int round = 0; round < 3; ++round) {
      edge.release(kTask);
      co_await w.until_asleep(kTask);
      const int probes = w.machine.probes(kTask.value);
      // Another task's probes of the same interval tell that time has passed.
      const TaskId other{"0000111122223333444455556666000" + std::to_string(round)};
      w.control.put(assignment("web", other));
      co_await w.control.until("others are probed",
                               [&] { return w.machine.probes(other.value) >= 8; });
      EXPECT_EQ(w.machine.probes(kTask.value), probes);
      w.clock.pass(1h);
      edge.hold(kTask);
      (void)co_await edge.answer();
      co_await w.control.until("it is probed again",
                               [&] { return w.machine.probes(kTask.value) >= probes + 6; });
      EXPECT_EQ(w.control.reports[kTask].health, Health::kHealthy);
    }
    // And what is broken after a wake is found out.
    w.machine.silent = {"web"};
    co_await w.control.until_health(kTask, Health::kUnhealthy);
    co_await edge.stop();
  });
}

TEST(AgentSleep, AFrozenTaskStopsWhenItIsNotWanted) {
  in_world([](World& w) -> Async<> {
    co_await w.run_for_long(assignment("web"));
    SimulatedEdge edge = w.edge();
    co_await edge.link({kTask});
    (void)co_await edge.answer();
    edge.release(kTask);
    co_await w.until_asleep(kTask);
    w.control.stop_task(kTask);
    co_await w.control.until_status(kTask, TaskStatus::kStopped);
    EXPECT_EQ(w.machine.signals(), std::vector<int>{15});
    EXPECT_FALSE(w.control.reports[kTask].asleep);
    EXPECT_EQ(w.machine.containers(), 0u);
    co_await edge.stop();
  });
}

TEST(AgentSleep, WhatCannotBeFrozenStaysAwake) {
  in_world([](World& w) -> Async<> {
    w.machine.restless = {"restless"};
    co_await w.run_for_long(assignment("restless"));
    SimulatedEdge edge = w.edge();
    co_await edge.link({kTask});
    (void)co_await edge.answer();
    edge.release(kTask);
    edge.hold(kTask);
    EXPECT_EQ((co_await edge.answer()).awake, std::vector<TaskId>{kTask});
    EXPECT_FALSE(w.machine.is_frozen(kTask.value));
    co_await edge.stop();
  });
}

TEST(AgentSleep, AThawThatFailsIsTriedAgain) {
  in_world([](World& w) -> Async<> {
    co_await w.run_for_long(assignment("web"));
    SimulatedEdge edge = w.edge();
    co_await edge.link({kTask});
    (void)co_await edge.answer();
    edge.release(kTask);
    co_await w.until_asleep(kTask);
    w.machine.thaws_unavailable = 2;
    edge.hold(kTask);
    EXPECT_EQ((co_await edge.answer()).awake, std::vector<TaskId>{kTask});
    EXPECT_FALSE(w.machine.is_frozen(kTask.value));
    co_await edge.stop();
  });
}

TEST(AgentSleep, RefusesWhatNoEdgeSays) {
  in_world([](World& w) -> Async<> {
    SimulatedEdge edge = w.edge();
    co_await edge.link({});
    link::TargetHold much;
    much.hold.assign(kTargetsNamedMax + 1, kTask);
    edge.send(much);
    co_await w.control.until("the link is ended", [&] { return edge.unlinked(); });
    co_await edge.stop();
    SimulatedEdge nobody = w.edge("");
    co_await nobody.link({});
    co_await w.control.until("the link is ended", [&] { return nobody.unlinked(); });
    co_await nobody.stop();
    SimulatedEdge garbled = w.edge();
    co_await garbled.link({});
    garbled.send_bytes({.type = "TargetHold", .body = "{\"hold\": 7}"});
    co_await w.control.until("the link is ended", [&] { return garbled.unlinked(); });
    co_await garbled.stop();
  });
}

TEST(AgentSleep, ALinkOfTheSameEdgeReplacesTheOneBefore) {
  in_world([](World& w) -> Async<> {
    co_await w.run_for_long(assignment("web"));
    SimulatedEdge before = w.edge();
    SimulatedEdge after = w.edge();
    co_await before.link({kTask});
    (void)co_await before.answer();
    co_await after.link({});
    co_await w.control.until("the first is ended", [&] { return before.unlinked(); });
    co_await w.until_asleep(kTask);
    co_await before.stop();
    after.hold(kTask);
    EXPECT_EQ((co_await after.answer()).awake, std::vector<TaskId>{kTask});
    co_await after.stop();
  });
}

}  // namespace
}  // namespace hob::host
