// Deployments that shift traffic, and the version that is kept after one: rows of decide_service().
#include <gtest/gtest.h>

#include <string>

#include "cluster/service_decision.h"

namespace hob::cluster {
namespace {

using namespace std::chrono_literals;
constexpr Instant t0{1'000'000s};

struct T {
  Task task{};
  Traffic traffic{};
};
T ready(const std::string& id) {
  T t;
  t.task.id = TaskId{id};
  t.task.deployment = DeploymentId{id.substr(0, 1)};
  t.task.host = HostId{"h1"};
  t.task.created_at = t0 + Duration(id[0] * 1000 + id[1]);
  t.task.status = TaskStatus::kRunning;
  t.task.health = Health::kHealthy;
  t.task.was_healthy = true;
  t.traffic = {.ready = true, .gone = false};
  return t;
}
T pending(const std::string& id) {
  T t = ready(id);
  t.task.status = TaskStatus::kPending;
  t.task.was_healthy = false;
  t.traffic = {};
  return t;
}
T unhealthy(const std::string& id, Duration since) {
  T t = ready(id);
  t.task.health = Health::kUnhealthy;
  t.task.unhealthy_since = t0 + since;
  return t;
}
T failed(const std::string& id) {
  T t = pending(id);
  t.task.status = TaskStatus::kStopped;
  t.task.desired = link::DesiredStatus::kStopped;
  t.task.stop_code = StopCode::kTaskFailedToStart;
  t.task.stopped_reason = "CannotPullContainerError: not found";
  t.task.stopped_at = t0 + 90s;
  return t;
}

std::string show(const std::vector<ServiceAction>& actions) {
  std::string text;
  for (const ServiceAction& action : actions) {
    std::string one;
    if (const auto* a = std::get_if<StartTask>(&action)) one = "start " + a->deployment.value;
    if (const auto* a = std::get_if<DrainTask>(&action)) one = "drain " + a->task.value;
    if (const auto* a = std::get_if<StopTask>(&action)) one = "stop " + a->task.value;
    if (const auto* a = std::get_if<CompleteDeployment>(&action))
      one = "complete " + a->deployment.value;
    if (const auto* a = std::get_if<KeepDeployment>(&action)) one = "keep " + a->deployment.value;
    if (const auto* a = std::get_if<FailDeployment>(&action)) one = "fail " + a->deployment.value;
    if (const auto* a = std::get_if<DropDeployment>(&action)) one = "drop " + a->deployment.value;
    if (const auto* a = std::get_if<ShiftTraffic>(&action))
      one = fmt::format("shift {} to {}", a->deployment.value, a->step);
    if (const auto* a = std::get_if<WakeAt>(&action))
      one = fmt::format("wake {}", (a->at - t0) / 1s);
    if (!one.empty()) text += (text.empty() ? "" : ", ") + one;
  }
  return text.empty() ? "nothing" : text;
}

DeploymentConfiguration canary() {
  return {.strategy = DeploymentStrategy::kCanary,
          .steps = {{.percent = 10, .wait = 60s}, {.percent = 50, .wait = 120s}},
          .bake_time = 30s};
}
DeploymentConfiguration blue_green(Duration bake = 30s) {
  return {.strategy = DeploymentStrategy::kBlueGreen, .bake_time = bake};
}

// "b" is rolled out over "a", at `step` since t0 + 90 s.
ServiceView rollout(const DeploymentConfiguration& how, int step, std::vector<T> tasks,
                    int desired = 1) {
  ServiceView view;
  view.service.desired_count = desired;
  view.service.deployments = {{.id = DeploymentId{"b"}, .configuration = how, .step = step},
                              {.id = DeploymentId{"a"}, .rollout = RolloutState::kCompleted}};
  if (step > 0) view.service.deployments[0].step_at = t0 + 90s;
  for (const T& t : tasks) {
    view.tasks.push_back(t.task);
    view.traffic[t.task.id] = t.traffic;
  }
  return view;
}
template <class F>
ServiceView with(ServiceView view, F change) {
  change(view);
  return view;
}
const auto kept_for = [](Duration keep) {
  return [keep](ServiceView& view) { view.service.keep_previous = keep; };
};
// "b" has succeeded, "a" is kept since t0 + 90 s for 15 min.
ServiceView kept(std::vector<T> tasks, int desired = 1) {
  return with(rollout({}, 0, std::move(tasks), desired), [](ServiceView& view) {
    view.service.keep_previous = 15min;
    view.service.deployments[0].rollout = RolloutState::kCompleted;
    view.service.deployments[1].kept_since = t0 + 90s;
  });
}

struct Case {
  const char* name;
  ServiceView view;
  Duration now;
  const char* want;
};
void check(const std::vector<Case>& cases) {
  for (const Case& c : cases) EXPECT_EQ(show(decide_service(c.view, t0 + c.now)), c.want) << c.name;
}

TEST(DeploymentStrategy, ShiftsTrafficStepByStep) {
  check({
      {"all new tasks beside all old ones, whatever the maximum percent says",
       with(rollout(canary(), 0, {ready("a1"), ready("a2")}, 2),
            [](ServiceView& view) { view.service.maximum_percent = 100; }),
       100s, "start b, start b"},
      {"not every one is ready",
       rollout(canary(), 0, {ready("a1"), ready("a2"), ready("b1"), pending("b2")}, 2), 100s,
       "wake 998"},
      {"all are: the first share", rollout(canary(), 0, {ready("a1"), ready("b1")}), 100s,
       "shift b to 1"},
      {"for as long as it says", rollout(canary(), 1, {ready("a1"), ready("b1")}), 149s,
       "wake 150"},
      {"then the next", rollout(canary(), 1, {ready("a1"), ready("b1")}), 150s, "shift b to 2"},
      {"then all", rollout(canary(), 2, {ready("a1"), ready("b1")}), 210s, "shift b to 3"},
      {"it bakes", rollout(canary(), 3, {ready("a1"), ready("b1")}), 119s, "wake 120"},
      {"and has succeeded", rollout(canary(), 3, {ready("a1"), ready("b1")}), 120s, "complete b"},
      {"what served before is kept",
       with(rollout(canary(), 3, {ready("a1"), ready("b1")}), kept_for(15min)), 120s,
       "complete b, keep a"},
      {"nothing moves on while a new task is missing",
       rollout(canary(), 1, {ready("a1"), ready("a2"), ready("b1")}, 2), 150s, "start b"},
      {"the old version is kept whole, too",
       rollout(canary(), 1, {ready("a1"), ready("b1"), ready("b2")}, 2), 100s, "start a, wake 150"},
      {"shrunk: both are",
       rollout(canary(), 1, {ready("a1"), ready("a2"), ready("b1"), ready("b2")}, 1), 100s,
       "drain b2, drain a2, wake 150"},
      {"blue/green: all at once", rollout(blue_green(), 0, {ready("a1"), ready("b1")}), 100s,
       "shift b to 1"},
      {"promoted: the other steps are left out",
       with(rollout(canary(), 1, {ready("a1"), ready("b1")}),
            [](ServiceView& view) { view.service.deployments[0].promoted = true; }),
       100s, "shift b to 3"},
      {"promoted: the bake time is, too",
       with(rollout(canary(), 3, {ready("a1"), ready("b1")}),
            [](ServiceView& view) { view.service.deployments[0].promoted = true; }),
       100s, "complete b"},
      {"nobody serves: no steps", rollout(canary(), 0, {ready("b1")}), 100s, "complete b, drop a"},
      {"no version before: no steps",
       with(rollout(canary(), 0, {ready("b1")}),
            [](ServiceView& view) { view.service.deployments.pop_back(); }),
       100s, "complete b"},
  });
}

TEST(DeploymentStrategy, GoesBackWhenTheNewVersionIsWorse) {
  const auto outcomes = [](Outcomes fresh, Outcomes old) {
    return [=](ServiceView& view) {
      view.outcomes[DeploymentId{"b"}] = {.lately = fresh, .all = fresh};
      view.outcomes[DeploymentId{"a"}] = {.lately = old, .all = old};
    };
  };
  const ServiceView at_first_step = rollout(canary(), 1, {ready("a1"), ready("b1")});
  check({
      {"a start that fails", rollout(canary(), 0, {ready("a1"), failed("b1")}), 100s,
       "fail b, wake 3690"},
      {"it answers with errors: its tasks go, the old ones are all there",
       with(at_first_step, outcomes({100, 50}, {900, 0})), 100s, "fail b, drain b1"},
      {"before it has had a request nothing is its fault",
       with(rollout(canary(), 0, {ready("a1"), ready("b1")}), outcomes({100, 50}, {900, 0})), 100s,
       "shift b to 1"},
      {"as the old one does", with(at_first_step, outcomes({100, 50}, {900, 450})), 100s,
       "wake 150"},
      {"in its bake time",
       with(rollout(blue_green(), 1, {ready("a1"), ready("b1")}), outcomes({100, 50}, {900, 0})),
       100s, "fail b, drain b1"},
      {"what had been healthy is not", rollout(canary(), 1, {ready("a1"), unhealthy("b1", 70s)}),
       100s, "fail b, drain b1"},
      {"not for long enough", rollout(canary(), 1, {ready("a1"), unhealthy("b1", 71s)}), 100s,
       "wake 101"},
  });
}

TEST(DeploymentStrategy, AVersionThatFailedCountsForNothing) {
  // "c" is rolled out over "a" after "b" has failed.
  const auto third = [](std::vector<T> tasks, int desired) {
    return with(rollout(canary(), 1, std::move(tasks), desired), [](ServiceView& view) {
      view.service.deployments[0].rollout = RolloutState::kFailed;
      view.service.deployments.insert(view.service.deployments.begin(),
                                      Deployment{.id = DeploymentId{"c"}});
    });
  };
  const auto asleep = [](T t) {
    t.task.asleep = true;
    return t;
  };
  check({
      {"its tasks go, the others are enough for one to follow them",
       third({asleep(ready("a1")), asleep(ready("a2")), ready("b1"), ready("b2"), ready("c1")}, 2),
       100s, "drain a2, drain b2, drain b1"},
      {"they go however few the others are: those want their room",
       third({ready("a1"), ready("b1"), ready("b2"), ready("b3")}, 3), 100s,
       "start c, start c, drain b3, drain b2, drain b1"},
      {"where nobody else serves they do",
       third({pending("a1"), ready("b1"), ready("b2"), pending("c1"), pending("c2")}, 2), 100s,
       "stop a1, wake 997"},
      {"until another does", third({ready("b1"), ready("b2"), ready("c1"), pending("c2")}, 2), 100s,
       "drain b2, drain b1, wake 999"},
  });
}

TEST(DeploymentStrategy, ErrorsMustBeMoreThanChance) {
  struct Row {
    const char* name;
    Outcomes fresh, old;
    bool want;
  };
  for (const Row& row : {
           Row{"nothing", {0, 0}, {1000, 0}, false},
           Row{"all of too few",
               {kJudgedRequestsMin - 1, kJudgedRequestsMin - 1},
               {1000, 0},
               false},
           Row{"all of enough", {kJudgedRequestsMin, kJudgedRequestsMin}, {1000, 0}, true},
           Row{"one failure less than counts", {20, kFailuresMin - 1}, {1000, 0}, false},
           Row{"as many as count", {20, kFailuresMin}, {1000, 0}, true},
           Row{"a margin of 1.9 points", {100'000, 1'900}, {100'000, 0}, false},
           Row{"a margin of 2 points", {100'000, 2'000}, {100'000, 0}, true},
           Row{"less than before", {1000, 10}, {1000, 100}, false},
           Row{"twice as many, of few: chance", {50, 10}, {50, 5}, false},
           Row{"twice as many, of many", {5000, 1000}, {5000, 500}, true},
           Row{"nothing known of the old one: a quarter", {100, 25}, {0, 0}, false},
           Row{"nothing known of the old one: more", {100, 26}, {0, 0}, true},
           Row{"both fail always", {1000, 1000}, {1000, 1000}, false},
       }) {
    EXPECT_EQ(errors_rose({row.fresh, row.fresh}, {row.old, row.old}).has_value(), row.want)
        << row.name;
  }
}

TEST(DeploymentStrategy, TheVersionBeforeIsKeptForAWhile) {
  const auto rolling = [](std::vector<T> tasks, int desired, int max = 200) {
    return with(rollout({}, 0, std::move(tasks), desired), [max](ServiceView& view) {
      view.service.keep_previous = 15min;
      view.service.maximum_percent = max;
      view.service.minimum_healthy_percent = 50;
    });
  };
  check({
      {"rolling: the old ones stay where there is room",
       rolling({ready("a1"), ready("a2"), ready("b1"), pending("b2")}, 2), 100s, "wake 998"},
      {"rolling: they go where there is none",
       rolling({ready("a1"), ready("a2"), ready("b1")}, 2, 150), 100s, "drain a2"},
      {"rolling: and are kept", rolling({ready("a1"), ready("a2"), ready("b1"), ready("b2")}, 2),
       100s, "complete b, keep a"},
      {"kept", kept({ready("a1"), ready("b1")}), 100s, "wake 990"},
      {"until its time is over", kept({ready("a1"), ready("b1")}), 990s, "drain a1"},
      {"not for longer than is set now", with(kept({ready("a1"), ready("b1")}), kept_for(0s)), 100s,
       "drain a1"},
      {"not where a task finds no room",
       with(kept({ready("a1"), ready("b1")}), [](ServiceView& view) { view.crowded = true; }), 100s,
       "drain a1"},
      {"not while nothing is to run", kept({ready("a1"), ready("b1")}, 0), 100s,
       "drain a1, drain b1"},
      {"no more than there should be", kept({ready("a1"), ready("a2"), ready("b1")}), 100s,
       "drain a2, wake 990"},
      {"it takes no room from what grows",
       with(kept({ready("a1"), ready("b1")}, 2),
            [](ServiceView& view) { view.service.maximum_percent = 100; }),
       100s, "start b, wake 990"},
      {"what is kept is not mended", kept({unhealthy("a1", 0s), ready("b1")}), 100s,
       "drain a1, wake 990"},
      {"without tasks it is nothing", kept({ready("b1")}), 100s, "drop a, wake 990"},
      {"the next deployment ends it",
       with(kept({ready("a1"), ready("b1")}),
            [](ServiceView& view) {
              view.service.deployments.insert(view.service.deployments.begin(),
                                              Deployment{.id = DeploymentId{"c"}});
            }),
       100s, "start c, drain a1"},
      {"in front again it has the requests at once",
       with(kept({ready("a1"), ready("b1")}),
            [](ServiceView& view) {
              Deployment back = view.service.deployments[1];
              back.kept_since.reset();
              back.rollout = RolloutState::kInProgress;
              back.configuration = blue_green(0s);
              view.service.deployments = {back, view.service.deployments[0]};
            }),
       100s, "shift a to 1"},
  });
}

TEST(DeploymentStrategy, Weights) {
  const auto show = [](const Service& service, const std::map<DeploymentId, int>& ready) {
    std::string text;
    for (const auto& [id, weight] : weights_of(service, ready))
      text += fmt::format("{}{}:{}", text.empty() ? "" : " ", id.value, weight);
    return text;
  };
  const DeploymentId a{"a"};
  const DeploymentId b{"b"};
  Service service = rollout(canary(), 0, {}).service;
  EXPECT_EQ(show(service, {{a, 3}, {b, 3}}), "a:1 b:0");
  service.deployments[0].step = 1;
  EXPECT_EQ(show(service, {{a, 3}, {b, 3}}), "a:9 b:1");
  EXPECT_EQ(show(service, {{a, 3}}), "a:1 b:0") << "no task of the new one is ready";
  EXPECT_EQ(show(service, {{b, 2}}), "a:0 b:1") << "the old one is gone";
  service.deployments[0].step = 3;
  EXPECT_EQ(show(service, {{a, 3}, {b, 3}}), "a:0 b:1");
  service.deployments[0].rollout = RolloutState::kFailed;
  EXPECT_EQ(show(service, {{a, 3}, {b, 3}}), "a:1 b:0");
  EXPECT_EQ(show(service, {{b, 3}}), "a:0 b:1") << "better than nobody";
  service.deployments[0].rollout = RolloutState::kCompleted;
  service.deployments[1].kept_since = t0;
  EXPECT_EQ(show(service, {{a, 3}, {b, 3}}), "a:0 b:1");
  service = rollout({}, 0, {}).service;
  EXPECT_EQ(show(service, {{a, 4}, {b, 2}}), "a:2 b:1") << "rolling: by their tasks";
  service = rollout(canary(), 1, {}).service;
  service.deployments.insert(service.deployments.begin() + 1, Deployment{.id = DeploymentId{"o"}});
  EXPECT_EQ(show(service, {{a, 2}, {b, 2}, {DeploymentId{"o"}, 1}}), "a:6 b:1 o:3")
      << "one that was overtaken shares the rest";
}

}  // namespace
}  // namespace hob::cluster
