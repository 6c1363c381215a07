#include "cluster/service_decision.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "cluster/task_state.h"

namespace hob::cluster {
namespace {

using namespace std::chrono_literals;
constexpr Instant t0{1'000'000s};

// A task of deployment `id[0]` ("a1" is of "a"), created at t0 + age of its letter; options below
// change it.
struct T {
  Task task{};
  Traffic traffic{};
};
T base(std::string id) {
  T t;
  t.task.id = TaskId{id};
  t.task.deployment = DeploymentId{id.substr(0, 1)};
  t.task.host = HostId{"h1"};
  t.task.zone = "z-a";
  t.task.status = TaskStatus::kPending;
  t.task.created_at = t0 + Duration(id[0] * 1000 + id[1]);
  return t;
}
T pending(std::string id) { return base(std::move(id)); }
T healthy(std::string id) {
  T t = base(std::move(id));
  t.task.status = TaskStatus::kRunning;
  t.task.health = Health::kHealthy;
  t.task.was_healthy = true;
  t.traffic.gone = false;
  return t;
}
T ready(std::string id) {
  T t = healthy(std::move(id));
  t.traffic.ready = true;
  return t;
}
T unhealthy(std::string id, Duration since) {
  T t = ready(std::move(id));
  t.task.health = Health::kUnhealthy;
  t.task.unhealthy_since = t0 + since;
  return t;
}
T draining(std::string id, Duration since) {
  T t = healthy(std::move(id));
  t.task.draining_since = t0 + since;
  return t;
}
T drained(std::string id, Duration since) {
  T t = draining(std::move(id), since);
  t.traffic.gone = true;
  return t;
}
T stopping(std::string id) {
  T t = base(std::move(id));
  t.task.desired = link::DesiredStatus::kStopped;
  t.task.stop_code = StopCode::kServiceSchedulerInitiated;
  t.task.stopped_reason = "Scaling activity";
  return t;
}
T stopped(std::string id, Duration at) {
  T t = stopping(std::move(id));
  t.task.status = TaskStatus::kStopped;
  t.task.stopped_at = t0 + at;
  return t;
}
T failed(std::string id, Duration at, std::string reason = "Essential container in task exited") {
  T t = stopped(std::move(id), at);
  t.task.stop_code = StopCode::kEssentialContainerExited;
  t.task.stopped_reason = std::move(reason);
  t.task.exit_code = 1;
  t.task.last_lines = {"boom"};
  return t;
}
T never_healthy(std::string id) {
  T t = base(std::move(id));
  t.task.status = TaskStatus::kRunning;
  t.task.health = Health::kUnhealthy;
  return t;
}
T asleep(T t) {
  t.task.asleep = true;
  return t;
}
T on(T t, const char* host, const char* zone) {
  t.task.host = HostId{host};
  t.task.zone = zone;
  return t;
}

struct S {
  int desired = 1;
  std::string deployments = "a+";  // newest first: '+' completed, '~' in progress, '!' failed
  int min = 100;
  int max = 200;
  ServiceStatus status = ServiceStatus::kActive;
  std::set<HostId> lost{};
};

ServiceView view_of(const S& s, const std::vector<T>& tasks) {
  ServiceView view{.lost_hosts = s.lost};
  view.service.status = s.status;
  view.service.desired_count = s.desired;
  view.service.minimum_healthy_percent = s.min;
  view.service.maximum_percent = s.max;
  view.service.routing.request_timeout = 120s;
  for (size_t i = 0; i + 1 < s.deployments.size(); i += 2) {
    Deployment deployment{.id = DeploymentId{s.deployments.substr(i, 1)}};
    if (s.deployments[i + 1] == '+') deployment.rollout = RolloutState::kCompleted;
    if (s.deployments[i + 1] == '!') deployment.rollout = RolloutState::kFailed;
    view.service.deployments.push_back(deployment);
  }
  for (const T& t : tasks) {
    view.tasks.push_back(t.task);
    view.traffic[t.task.id] = t.traffic;
  }
  return view;
}

struct Show {
  std::string operator()(const StartTask& a) const { return "start " + a.deployment.value; }
  std::string operator()(const DrainTask& a) const { return "drain " + a.task.value; }
  std::string operator()(const StopTask& a) const { return "stop " + a.task.value; }
  std::string operator()(const ForgetTask& a) const { return "forget " + a.task.value; }
  std::string operator()(const PinImage& a) const {
    return fmt::format("pin {} {}", a.deployment.value, a.digest);
  }
  std::string operator()(const CountFailures& a) const {
    return fmt::format("count {} {}", a.deployment.value, a.failed_tasks);
  }
  std::string operator()(const ShiftTraffic& a) const {
    return fmt::format("shift {} to {}", a.deployment.value, a.step);
  }
  std::string operator()(const KeepDeployment& a) const { return "keep " + a.deployment.value; }
  std::string operator()(const CompleteDeployment& a) const {
    return "complete " + a.deployment.value;
  }
  std::string operator()(const FailDeployment& a) const { return "fail " + a.deployment.value; }
  std::string operator()(const DropDeployment& a) const { return "drop " + a.deployment.value; }
  std::string operator()(const RemoveService&) const { return "remove"; }
  std::string operator()(const WakeAt& a) const { return fmt::format("wake {}", (a.at - t0) / 1s); }
};
std::string show(const std::vector<ServiceAction>& actions, bool wakes = false) {
  std::string text;
  for (const ServiceAction& action : actions) {
    if (!wakes && std::holds_alternative<WakeAt>(action)) continue;
    text += (text.empty() ? "" : ", ") + std::visit(Show{}, action);
  }
  return text.empty() ? "nothing" : text;
}

struct Case {
  const char* name;
  S service;
  std::vector<T> tasks;
  const char* want;
};
void check(const std::vector<Case>& cases, Duration now = 100s) {
  for (const Case& c : cases) {
    const ServiceView view = view_of(c.service, c.tasks);
    EXPECT_EQ(show(decide_service(view, t0 + now)), c.want) << c.name;
    // The order in which records come must not matter.
    ServiceView reversed = view;
    std::ranges::reverse(reversed.tasks);
    EXPECT_EQ(show(decide_service(reversed, t0 + now)), c.want) << c.name << " (reversed)";
  }
}

TEST(DecideService, KeepsTheDesiredNumber) {
  check({
      {"a new service starts its tasks",
       {.desired = 2, .deployments = "a~"},
       {},
       "start a, start a"},
      {"pending ones count", {.desired = 2, .deployments = "a~"}, {pending("a1")}, "start a"},
      {"enough", {.desired = 1, .deployments = "a~"}, {pending("a1")}, "nothing"},
      {"healthy, but an edge does not route to it",
       {.deployments = "a~"},
       {healthy("a1")},
       "nothing"},
      {"healthy and routed: done", {.deployments = "a~"}, {ready("a1")}, "complete a"},
      {"one of two is not enough",
       {.desired = 2, .deployments = "a~"},
       {ready("a1"), healthy("a2")},
       "nothing"},
      {"steady", {.desired = 2}, {ready("a1"), ready("a2")}, "nothing"},
      {"grown", {.desired = 3}, {ready("a1")}, "start a, start a"},
      {"shrunk: the newest goes", {.desired = 1}, {ready("a1"), ready("a2")}, "drain a2"},
      {"shrunk: what does not serve goes first",
       {.desired = 1},
       {pending("a1"), ready("a2")},
       "stop a1"},
      {"shrunk: the fullest zone first",
       {.desired = 2},
       {on(ready("a1"), "h1", "z-a"), on(ready("a2"), "h2", "z-a"), on(ready("a3"), "h3", "z-b")},
       "drain a2"},
      {"shrunk: what sleeps goes before what is awake",
       {.desired = 2},
       {asleep(ready("a1")), ready("a2"), ready("a3")},
       "drain a1"},
      {"shrunk: what sleeps serves, and stays before what does not",
       {.desired = 1},
       {asleep(ready("a1")), healthy("a2")},
       "drain a2"},
      {"grown far over the maximum percent: no rollout",
       {.desired = 5},
       {ready("a1")},
       "start a, start a, start a, start a"},
      {"shrunk in a rollout: it completes with what is desired then",
       {.desired = 1, .deployments = "b~a+"},
       {ready("b1"), ready("b2"), drained("a1", 10s), drained("a2", 10s)},
       "stop a1, stop a2, drain b2, complete b"},
      {"grown in a rollout: the new version grows",
       {.desired = 3, .deployments = "b~a+"},
       {ready("b1"), ready("a1")},
       "start b, start b"},
      {"stopped for lack of visitors, and complete", {.desired = 0}, {}, "nothing"},
      {"to zero", {.desired = 0}, {ready("a1"), ready("a2")}, "drain a2, drain a1"},
      {"no deployment, no task", {.desired = 3, .deployments = ""}, {}, "nothing"},
      {"a task that ended is replaced", {}, {stopped("a1", 90s)}, "start a"},
      {"one at most above zero for a max of 100",
       {.desired = 1, .max = 100},
       {ready("a1")},
       "nothing"},
      {"zero desired completes at once", {.desired = 0, .deployments = "a~"}, {}, "complete a"},
  });
}

TEST(DecideService, RollsOut) {
  check({
      {"new beside old, as many as maximumPercent allows",
       {.deployments = "b~a+"},
       {ready("a1")},
       "start b"},
      {"150 % of 2 is one more",
       {.desired = 2, .deployments = "b~a+", .max = 150},
       {ready("a1"), ready("a2")},
       "start b"},
      {"150 % of 1 is rounded down: no room",
       {.deployments = "b~a+", .max = 150},
       {ready("a1")},
       "nothing"},
      {"min 50 % of 1 is rounded up: still nothing can move",
       {.deployments = "b~a+", .min = 50, .max = 100},
       {ready("a1")},
       "nothing"},
      {"min 0 stops the old one first",
       {.deployments = "b~a+", .min = 0, .max = 100},
       {ready("a1")},
       "drain a1"},
      {"min 50 % of 2 lets one go",
       {.desired = 2, .deployments = "b~a+", .min = 50, .max = 100},
       {ready("a1"), ready("a2")},
       "drain a2"},
      {"not healthy yet", {.deployments = "b~a+"}, {ready("a1"), pending("b1")}, "nothing"},
      {"healthy, not routed by every edge yet",
       {.deployments = "b~a+"},
       {ready("a1"), healthy("b1")},
       "nothing"},
      {"routed: the old one drains",
       {.deployments = "b~a+"},
       {ready("a1"), ready("b1")},
       "drain a1"},
      {"one for one",
       {.desired = 2, .deployments = "b~a+"},
       {ready("a1"), ready("a2"), ready("b1"), pending("b2")},
       "drain a2"},
      {"requests of the old one still run",
       {.deployments = "b~a+"},
       {draining("a1", 90s), ready("b1")},
       "nothing"},
      {"they ended: stopped, and done",
       {.deployments = "b~a+"},
       {drained("a1", 90s), ready("b1")},
       "stop a1, complete b"},
      {"the old one is stopping: done",
       {.deployments = "b~a+"},
       {stopping("a1"), ready("b1")},
       "complete b"},
      {"the old one is gone: dropped",
       {.deployments = "b+a+"},
       {stopped("a1", 99s), ready("b1")},
       "drop a"},
      {"not while it is stopping",
       {.deployments = "b+a+"},
       {stopping("a1"), ready("b1")},
       "nothing"},
      {"draining tasks leave room",
       {.deployments = "c~b+"},
       {draining("b1", 90s), ready("b2")},
       "start c"},
      {"overtaken by a newer one: its pending tasks go at once",
       {.deployments = "c~b~a+"},
       {ready("a1"), pending("b1")},
       "stop b1"},
      {"overtaken and empty: dropped",
       {.deployments = "c~b~a+"},
       {ready("a1"), pending("c1")},
       "drop b"},
      {"an old task that does not serve goes at once",
       {.desired = 2, .deployments = "b~a+"},
       {ready("a1"), pending("a2"), pending("b1"), pending("b2")},
       "stop a2"},
  });
}

TEST(DecideService, FailsWhatNeverBecomesHealthy) {
  check({
      {"one failure: tried again",
       {.deployments = "b~a+"},
       {ready("a1"), failed("b1", 90s)},
       "count b 1, start b"},
      {"two",
       {.deployments = "b~a+"},
       {ready("a1"), failed("b1", 90s), failed("b2", 91s)},
       "count b 2, start b"},
      {"three: failed, and the old one untouched",
       {.deployments = "b~a+"},
       {ready("a1"), failed("b1", 90s), failed("b2", 91s), failed("b3", 92s)},
       "count b 3, fail b"},
      {"a healthy one in between forgives",
       {.desired = 2, .deployments = "b~"},
       {failed("b1", 90s), failed("b2", 91s), ready("b3"), failed("b4", 92s)},
       "count b 1, start b"},
      {"its other tasks go at once",
       {.desired = 2, .deployments = "b~a+"},
       {ready("a1"), ready("a2"), pending("b0"), failed("b1", 90s), failed("b2", 91s),
        failed("b3", 92s)},
       "count b 3, fail b, stop b0"},
      {"no image: one is enough",
       {.deployments = "b~a+"},
       {ready("a1"), failed("b1", 90s, "CannotPullContainerError: x:1 not found")},
       "count b 1, fail b"},
      {"no room: one is enough",
       {.deployments = "b~a+"},
       {ready("a1"), failed("b1", 90s, "RESOURCE:MEMORY: the task needs 2048 MiB")},
       "count b 1, fail b"},
      {"unhealthy before it was ever healthy: stopped",
       {.deployments = "b~a+"},
       {ready("a1"), never_healthy("b1")},
       "stop b1"},
      {"the first deployment fails: nothing is left",
       {.deployments = "a!"},
       {pending("a1")},
       "stop a1"},
      {"failed is final", {.deployments = "b!a+"}, {ready("a1"), stopping("b1")}, "nothing"},
      {"with the old one gone meanwhile, it comes back", {.deployments = "b!a+"}, {}, "start a"},
      {"half rolled out when it failed: the old ones are filled up first",
       {.desired = 2, .deployments = "b!a+"},
       {ready("a1"), ready("b1")},
       "start a"},
      {"and then the failed one's go",
       {.desired = 2, .deployments = "b!a+"},
       {ready("a1"), ready("a2"), ready("b1")},
       "drain b1"},
      {"overtaken before it was complete, and the next failed: it serves, so it goes on",
       {.desired = 2, .deployments = "b!a~"},
       {ready("a1"), stopped("b1", 90s)},
       "start a"},
      {"and completes",
       {.desired = 1, .deployments = "b!a~"},
       {ready("a1"), stopped("b1", 90s)},
       "complete a"},
      {"the failed one leaves the list with the next",
       {.deployments = "c~b!a+"},
       {ready("a1"), pending("c1"), stopped("b1", 90s)},
       "drop b"},
  });
}

TEST(DecideService, SaysWhyItFailed) {
  ServiceView view =
      view_of({.deployments = "a~"}, {failed("a1", 1s), failed("a2", 2s), failed("a3", 3s)});
  for (const ServiceAction& action : decide_service(view, t0 + 100s)) {
    if (const auto* fail = std::get_if<FailDeployment>(&action)) {
      EXPECT_EQ(fail->reason, "Essential container in task exited (exit code 1)");
      EXPECT_EQ(fail->last_lines, std::vector<std::string>{"boom"});
    }
  }
}

TEST(DecideService, RunsOneImageWhereverATagGoes) {
  const auto with = [](T t, std::string digest) {
    t.task.image_digest = std::move(digest);
    return t;
  };
  const auto lost = [](T t) { return on(std::move(t), "lost", "z-b"); };
  struct ImageCase {
    const char* name;
    const char* reference;
    const char* pinned;
    std::vector<T> tasks;
    const char* want;
  };
  for (const ImageCase& c : {
           ImageCase{"a tag: one finds out what it means", "1", "", {}, "start a"},
           ImageCase{"the others wait for its word", "1", "", {pending("a1")}, "nothing"},
           ImageCase{"it has pulled: the others follow",
                     "1",
                     "",
                     {with(pending("a1"), "x")},
                     "pin a x, start a, start a"},
           ImageCase{"it pulled and failed: that was the image, all the same",
                     "1",
                     "",
                     {with(failed("a1", 90s), "x")},
                     "count a 1, pin a x, start a, start a, start a"},
           ImageCase{
               "it failed before it knew", "1", "", {failed("a1", 90s)}, "count a 1, start a"},
           ImageCase{"its host is lost", "1", "", {lost(pending("a1"))}, "start a"},
           ImageCase{"pinned", "1", "x", {pending("a1")}, "start a, start a"},
           ImageCase{"a digest needs no pin", "sha256:1", "", {}, "start a, start a, start a"},
           ImageCase{"of two that knew, as older versions had it, the first counts",
                     "1",
                     "",
                     {with(ready("a1"), "x"), with(ready("a2"), "y"), with(ready("a3"), "x")},
                     "pin a x, complete a"},
           ImageCase{"and the other is replaced",
                     "1",
                     "x",
                     {with(ready("a1"), "x"), with(ready("a2"), "y"), with(ready("a3"), "x")},
                     "start a"},
           ImageCase{"in turn",
                     "1",
                     "x",
                     {with(ready("a1"), "x"), with(ready("a2"), "y"), with(ready("a3"), "x"),
                      with(ready("a4"), "x")},
                     "drain a2"},
           ImageCase{
               "a host that does not say what it runs", "1", "", {ready("a1")}, "start a, start a"},
       }) {
    ServiceView view =
        view_of({.desired = 3, .deployments = "a~", .lost = {HostId{"lost"}}}, c.tasks);
    Deployment& deployment = view.service.deployments.front();
    deployment.task.containers = {{.name = "app", .image = {.reference = c.reference}}};
    deployment.image_digest = c.pinned;
    EXPECT_EQ(show(decide_service(view, t0 + 100s)), c.want) << c.name;
  }
}

TEST(DecideService, ReplacesWhatDoesNotServe) {
  check({
      {"unhealthy for a moment: its host restarts it", {}, {unhealthy("a1", 90s)}, "nothing"},
      {"unhealthy for long: its successor first", {}, {unhealthy("a1", 70s)}, "start a"},
      {"one millisecond before", {}, {unhealthy("a1", 70s + 1ms)}, "nothing"},
      {"the successor is not there yet", {}, {unhealthy("a1", 70s), healthy("a2")}, "nothing"},
      {"it is: out with it", {}, {unhealthy("a1", 70s), ready("a2")}, "drain a1"},
      {"it recovered first: the successor is surplus", {}, {ready("a1"), pending("a2")}, "stop a2"},
      {"no room for a successor: it goes first",
       {.desired = 1, .max = 100},
       {unhealthy("a1", 70s)},
       "drain a1"},
      {"a lost host's task", {.lost = {HostId{"h1"}}}, {ready("a1")}, "start a"},
      {"and its successor",
       {.lost = {HostId{"h1"}}},
       {ready("a1"), on(ready("a2"), "h2", "z-b")},
       "drain a1"},
      {"a lost host's task is not waited for",
       {.deployments = "b+a+", .lost = {HostId{"h1"}}},
       {stopping("a1"), on(ready("b1"), "h2", "z-b")},
       "drop a"},
      {"three failures in a row: not at once",
       {},
       {failed("a1", 97s), failed("a2", 98s), failed("a3", 99s)},
       "count a 3"},
      {"but after 10 s",
       {},
       {failed("a1", 88s), failed("a2", 89s), failed("a3", 90s)},
       "count a 3, start a"},
  });
}

TEST(DecideService, WaitsForRequestsButNotForever) {
  const ServiceView view = view_of({.deployments = "b~a+"}, {draining("a1", 0s), ready("b1")});
  EXPECT_EQ(show(decide_service(view, t0 + 119s), true), "wake 120");
  EXPECT_EQ(show(decide_service(view, t0 + 120s), true), "stop a1, complete b");
}

TEST(DecideService, StartsThatTakeTooLongFail) {
  ServiceView view = view_of({.deployments = "a~"}, {pending("a1")});
  view.tasks[0].created_at = t0;
  EXPECT_EQ(show(decide_service(view, t0 + 899s), true), "wake 900");
  EXPECT_EQ(show(decide_service(view, t0 + 900s)), "stop a1");
  view.tasks[0].desired = link::DesiredStatus::kStopped;
  view.tasks[0].stop_code = StopCode::kServiceSchedulerInitiated;
  view.tasks[0].stopped_reason = std::string(kReasonStartTimeout) + ": 15 minutes";
  EXPECT_EQ(show(decide_service(view, t0 + 900s)), "count a 1, fail a");
}

TEST(DecideService, RemovesADrainingService) {
  check({
      {"its tasks leave the routes",
       {.status = ServiceStatus::kDraining},
       {ready("a1"), pending("a2")},
       "stop a2, drain a1"},
      {"then stop", {.status = ServiceStatus::kDraining}, {drained("a1", 90s)}, "stop a1"},
      {"it stays while they do", {.status = ServiceStatus::kDraining}, {stopping("a1")}, "nothing"},
      {"then it goes, with what is left",
       {.status = ServiceStatus::kDraining},
       {stopped("a1", 99s)},
       "forget a1, remove"},
      {"at once if there never was one", {.status = ServiceStatus::kDraining}, {}, "remove"},
      {"a lost host does not hold it",
       {.status = ServiceStatus::kDraining, .lost = {HostId{"h1"}}},
       {stopping("a1")},
       "remove"},
  });
}

TEST(DecideService, ForgetsStoppedTasks) {
  EXPECT_EQ(show(decide_service(view_of({}, {ready("a1"), stopped("a2", 0s)}), t0 + 3599s), true),
            "wake 3600");
  EXPECT_EQ(show(decide_service(view_of({}, {ready("a1"), stopped("a2", 0s)}), t0 + 3600s)),
            "forget a2");
  std::vector<T> many{ready("a1")};
  for (int i = 0; i < static_cast<int>(kStoppedTasksMax) + 2; ++i) {
    many.push_back(stopped(fmt::format("a{}", static_cast<char>('2' + i)), Duration(i)));
  }
  EXPECT_EQ(show(decide_service(view_of({}, many), t0 + 1s)), "forget a3, forget a2");
}

TEST(DecideService, AtMostAHundredStartsAStep) {
  const auto actions = decide_service(view_of({.desired = 150, .deployments = "a~"}, {}), t0);
  EXPECT_EQ(std::ranges::count_if(
                actions, [](const auto& a) { return std::holds_alternative<StartTask>(a); }),
            100);
}

TEST(DecideService, RoundsAsEcsDoes) {
  struct Row {
    int desired, min, max, want_min, want_max;
  };
  for (const Row& row : {Row{1, 50, 150, 1, 1}, Row{3, 50, 150, 2, 4}, Row{4, 25, 200, 1, 8},
                         Row{0, 100, 200, 0, 0}, Row{5000, 100, 200, 5000, 10000}}) {
    Service service{.desired_count = row.desired,
                    .minimum_healthy_percent = row.min,
                    .maximum_percent = row.max};
    EXPECT_EQ(healthy_min(service), row.want_min);
    EXPECT_EQ(tasks_max(service), row.want_max);
  }
}

}  // namespace
}  // namespace hob::cluster
