#include "host/decide.h"

#include <gtest/gtest.h>

#include <string>

namespace hob::host {
namespace {

using namespace std::chrono_literals;
using link::Health;
using link::StopCode;
using link::TaskStatus;

constexpr Instant t0{1'000'000s};

std::string show(const std::vector<Action>& actions) {
  struct Shower {
    std::string operator()(PullImage) { return "pull"; }
    std::string operator()(AbandonPull) { return "abandon"; }
    std::string operator()(AttachNetwork) { return "attach"; }
    std::string operator()(StartContainer) { return "start"; }
    std::string operator()(StopContainer stop) { return "signal " + std::to_string(stop.signal); }
    std::string operator()(KillContainer) { return "kill"; }
    std::string operator()(RemoveContainer) { return "remove"; }
    std::string operator()(CleanUp) { return "clean up"; }
    std::string operator()(Forget) { return "forget"; }
    std::string operator()(Freeze) { return "freeze"; }
    std::string operator()(Thaw) { return "thaw"; }
    std::string operator()(WakeAt wake) {
      return "wake at " + std::to_string((wake.at - t0) / 1ms);
    }
  };
  std::string text;
  for (const Action& action : actions)
    text += (text.empty() ? "" : ", ") + std::visit(Shower{}, action);
  return text;
}

TaskView fresh() {
  TaskView view;
  view.assignment.stop_timeout = 30s;
  view.assignment.probe = link::Probe{};
  return view;
}
TaskView ready() {
  TaskView view = fresh();
  view.image_here = view.network_here = view.saved = true;
  return view;
}
TaskView running() {
  TaskView view = ready();
  note_started(view, t0);
  return view;
}
TaskView healthy() {
  TaskView view = running();
  view.health.health = Health::kHealthy;
  note_healthy(view);
  return view;
}
TaskView unwanted(TaskView view) {
  view.assignment.desired = link::DesiredStatus::kStopped;
  return view;
}
TaskView with(TaskView view, void (*change)(TaskView&)) {
  change(view);
  return view;
}

TEST(DecideTask, AsTheTableSays) {
  struct Case {
    const char* name;
    TaskView view;
    Duration now;
    const char* want;
  };
  for (const Case& c : {
           Case{"new", fresh(), 0s, "pull, attach"},
           Case{"pulling",
                with(fresh(),
                     [](TaskView& v) {
                       v.pulling = true;
                       v.network_here = true;
                     }),
                0s, ""},
           Case{"image before network", with(fresh(), [](TaskView& v) { v.image_here = true; }), 0s,
                "attach"},
           Case{"all is there", ready(), 0s, "start"},
           Case{"not on disk yet", with(ready(), [](TaskView& v) { v.saved = false; }), 0s, ""},
           Case{"starting", with(ready(), [](TaskView& v) { v.starting = true; }), 0s, ""},
           Case{"running", running(), 0s, ""},
           Case{"image not pulled", with(fresh(), [](TaskView& v) { note_failure(v, "x", t0); }),
                0s, "clean up"},
           Case{"image not pulled, network still being made",
                with(fresh(),
                     [](TaskView& v) {
                       v.attaching = true;
                       note_failure(v, "x", t0);
                     }),
                0s, ""},
           Case{"exited before it was healthy",
                with(running(), [](TaskView& v) { note_exit(v, 1, false, t0); }), 0s, "clean up"},
           Case{"exited, was healthy: back-off",
                with(healthy(), [](TaskView& v) { note_exit(v, 1, false, t0 + 5s); }), 5s,
                "wake at 6000"},
           Case{"the back-off is over",
                with(healthy(), [](TaskView& v) { note_exit(v, 1, false, t0 + 5s); }), 6s,
                "remove"},
           Case{"stable before: at once",
                with(healthy(), [](TaskView& v) { note_exit(v, 1, false, t0 + 60s); }), 60s,
                "remove"},
           Case{"removed: start again",
                with(healthy(),
                     [](TaskView& v) {
                       note_exit(v, 1, false, t0);
                       v.container = ContainerState::kNone;
                     }),
                9s, "start"},
           Case{"was healthy, must not restart",
                with(healthy(),
                     [](TaskView& v) {
                       v.assignment.restart = false;
                       note_exit(v, 1, false, t0);
                     }),
                9s, "clean up"},
           Case{"a restart fails: back-off again",
                with(healthy(),
                     [](TaskView& v) {
                       note_exit(v, 1, false, t0);
                       v.container = ContainerState::kNone;
                       note_failure(v, "x", t0 + 2s);
                     }),
                2s, "wake at 4000"},
           Case{"released", with(healthy(), [](TaskView& v) { v.sleep.released = true; }),
                kAwakeAfterStart, "freeze"},
           Case{"released, not healthy yet",
                with(running(), [](TaskView& v) { v.sleep.released = true; }), kAwakeAfterStart,
                ""},
           Case{"released, a container started again",
                with(healthy(),
                     [](TaskView& v) {
                       v.sleep.released = true;
                       note_exit(v, 1, false, t0 + 5s);
                       note_started(v, t0 + 9s);
                       v.health.health = Health::kHealthy;
                     }),
                10s, "wake at 19000"},
           Case{"released and being stopped",
                unwanted(with(healthy(), [](TaskView& v) { v.sleep.released = true; })),
                kAwakeAfterStart, "signal 15, wake at 40001"},
           Case{"frozen and held",
                with(healthy(),
                     [](TaskView& v) {
                       v.sleep.frozen = true;
                       note_held(v.sleep, EdgeId{"e"});
                     }),
                1h, "thaw"},
           Case{"frozen and not wanted",
                unwanted(with(healthy(), [](TaskView& v) { v.sleep.frozen = true; })), 0s,
                "signal 15, wake at 30001"},
           Case{"not wanted before it began", unwanted(fresh()), 0s, "clean up"},
           Case{"not wanted while pulling",
                unwanted(with(fresh(), [](TaskView& v) { v.pulling = true; })), 0s, "abandon"},
           Case{"not wanted while starting",
                unwanted(with(ready(), [](TaskView& v) { v.starting = true; })), 0s, ""},
           Case{"not wanted: SIGTERM", unwanted(running()), 0s, "signal 15, wake at 30001"},
           Case{"the image's signal",
                unwanted(with(running(), [](TaskView& v) { v.stop_signal = "SIGQUIT"; })), 0s,
                "signal 3, wake at 30001"},
           Case{"signal being sent",
                unwanted(with(running(), [](TaskView& v) { v.stopping = true; })), 0s, ""},
           Case{"waits for its end",
                unwanted(with(running(), [](TaskView& v) { v.state.stop_sent_at = t0; })), 1s,
                "wake at 30000"},
           Case{"one ms before the time-out",
                unwanted(with(running(), [](TaskView& v) { v.state.stop_sent_at = t0; })),
                30s - 1ms, "wake at 30000"},
           Case{"ignored the signal",
                unwanted(with(running(), [](TaskView& v) { v.state.stop_sent_at = t0; })), 30s,
                "kill, wake at 35000"},
           Case{"killed",
                unwanted(with(running(),
                              [](TaskView& v) {
                                v.state.stop_sent_at = t0;
                                v.killed_at = t0 + 30s;
                              })),
                31s, "wake at 35000"},
           Case{"killed and still there",
                unwanted(with(running(),
                              [](TaskView& v) {
                                v.state.stop_sent_at = t0;
                                v.killed_at = t0 + 30s;
                              })),
                35s, "kill, wake at 40000"},
           Case{"the clock was set back after the signal",
                unwanted(with(running(), [](TaskView& v) { v.state.stop_sent_at = t0 + 100s; })),
                0s, "wake at 30000"},
           Case{"exited after the signal",
                unwanted(with(running(), [](TaskView& v) { note_exit(v, 143, false, t0); })), 0s,
                "clean up"},
           Case{"being cleaned up", unwanted(with(fresh(), [](TaskView& v) { v.cleaning = true; })),
                0s, ""},
           Case{"forgotten while it runs", with(running(), [](TaskView& v) { v.assigned = false; }),
                0s, "signal 15, wake at 30001"},
           Case{"stopped, control has not seen it",
                unwanted(with(fresh(), [](TaskView& v) { note_stopped(v, t0); })), 0s, ""},
           Case{"stopped and seen",
                with(fresh(),
                     [](TaskView& v) {
                       note_stopped(v, t0);
                       v.assigned = false;
                     }),
                0s, "forget"},
       }) {
    EXPECT_EQ(show(decide_task(c.view, t0 + c.now)), c.want) << c.name;
  }
}

TEST(DecideTask, Reports) {
  struct Case {
    const char* name;
    TaskView view;
    TaskStatus status;
    Health health;
    StopCode stop_code;
    const char* reason;
  };
  const StopCode none = StopCode::kNone;
  for (const Case& c : {
           Case{"new", fresh(), TaskStatus::kPending, Health::kUnknown, none, ""},
           Case{"pulling", with(fresh(), [](TaskView& v) { v.pulling = true; }),
                TaskStatus::kActivating, Health::kUnknown, none, ""},
           Case{"running", running(), TaskStatus::kRunning, Health::kUnknown, none, ""},
           Case{"no probe: healthy when it runs",
                with(ready(),
                     [](TaskView& v) {
                       v.assignment.probe.reset();
                       note_started(v, t0);
                     }),
                TaskStatus::kRunning, Health::kHealthy, none, ""},
           Case{"between exit and restart",
                with(healthy(), [](TaskView& v) { note_exit(v, 1, false, t0); }),
                TaskStatus::kRunning, Health::kUnknown, none, "Essential container in task exited"},
           Case{"stopping", unwanted(healthy()), TaskStatus::kStopping, Health::kHealthy, none, ""},
           Case{"being removed",
                with(unwanted(running()), [](TaskView& v) { note_exit(v, 143, false, t0); }),
                TaskStatus::kDeprovisioning, Health::kUnknown, none, ""},
           Case{"stopped by the scheduler",
                unwanted(with(running(),
                              [](TaskView& v) {
                                v.assignment.service = "s";
                                note_stopped(v, t0);
                              })),
                TaskStatus::kStopped, Health::kUnknown, StopCode::kServiceSchedulerInitiated,
                "Scaling activity initiated"},
           Case{"stopped by a user",
                unwanted(with(running(), [](TaskView& v) { note_stopped(v, t0); })),
                TaskStatus::kStopped, Health::kUnknown, StopCode::kUserInitiated,
                "Task stopped by user"},
           Case{"out of memory",
                with(running(),
                     [](TaskView& v) {
                       v.assignment.restart = false;
                       note_exit(v, 137, true, t0);
                       note_stopped(v, t0);
                     }),
                TaskStatus::kStopped, Health::kUnknown, StopCode::kEssentialContainerExited,
                "OutOfMemoryError: Container killed due to memory usage"},
           Case{"the first cause counts",
                with(fresh(),
                     [](TaskView& v) {
                       note_failure(v, "a", t0);
                       note_failure(v, "b", t0);
                       note_stopped(v, t0);
                     }),
                TaskStatus::kStopped, Health::kUnknown, StopCode::kTaskFailedToStart, "a"},
       }) {
    const link::TaskReport report = report_of(c.view);
    EXPECT_EQ(report.status, c.status) << c.name;
    EXPECT_EQ(report.health, c.health) << c.name;
    EXPECT_EQ(report.stop_code, c.stop_code) << c.name;
    EXPECT_EQ(report.reason, c.reason) << c.name;
  }
}

TEST(DecideTask, TellsEdgesAndControlWhetherItRuns) {
  struct Case {
    const char* name;
    TaskView view;
    Wakefulness want;
    bool asleep;
  };
  for (const Case& c : {
           Case{"not started yet", fresh(), Wakefulness::kComing, false},
           Case{"running", healthy(), Wakefulness::kAwake, false},
           Case{"being frozen", with(healthy(), [](TaskView& v) { v.sleep.freezing = true; }),
                Wakefulness::kComing, false},
           Case{"frozen", with(healthy(), [](TaskView& v) { v.sleep.frozen = true; }),
                Wakefulness::kComing, true},
           Case{"being thawed",
                with(healthy(), [](TaskView& v) { v.sleep.frozen = v.sleep.thawing = true; }),
                Wakefulness::kComing, true},
           Case{"between exit and restart",
                with(healthy(),
                     [](TaskView& v) {
                       v.sleep.frozen = true;
                       note_exit(v, 1, false, t0);
                     }),
                Wakefulness::kComing, false},
           Case{"ended for good", with(running(), [](TaskView& v) { note_exit(v, 1, false, t0); }),
                Wakefulness::kGone, false},
           Case{"being stopped", unwanted(healthy()), Wakefulness::kGone, false},
           Case{"stopped", with(fresh(), [](TaskView& v) { note_stopped(v, t0); }),
                Wakefulness::kGone, false},
       }) {
    EXPECT_EQ(wakefulness_of(c.view), c.want) << c.name;
    EXPECT_EQ(report_of(c.view).asleep, c.asleep) << c.name;
  }
}

TEST(DecideTask, KnowsSignals) {
  EXPECT_EQ(signal_number(""), 15);
  EXPECT_EQ(signal_number("SIGQUIT"), 3);
  EXPECT_EQ(signal_number("QUIT"), 3);
  EXPECT_EQ(signal_number("3"), 3);
  EXPECT_EQ(signal_number("SIGRTMIN+3"), 37);
  EXPECT_EQ(signal_number("SIGRTMIN+99"), 15);
  EXPECT_EQ(signal_number("0"), 15);
  EXPECT_EQ(signal_number("-9"), 15);
  EXPECT_EQ(signal_number("nonsense"), 15);
}

}  // namespace
}  // namespace hob::host
