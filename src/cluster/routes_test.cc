#include "cluster/routes.h"

#include <gtest/gtest.h>

namespace hob::cluster {
namespace {

using namespace std::chrono_literals;
constexpr Instant t0{1'000'000s};

Task task(std::string id) {
  return {.id = TaskId{std::move(id)},
          .deployment = DeploymentId{"d"},
          .host = HostId{"h"},
          .address = "198.18.0.4",
          .status = TaskStatus::kRunning,
          .health = Health::kHealthy};
}

TEST(DecideRoutes, HealthyAndDrainingTargetsInOrder) {
  Service service{.name = "s",
                  .deployments = {{.id = DeploymentId{"d"}}},
                  .routing = {.host_names = {"s.localhost"},
                              .awake_min = 1,
                              .sleep_after = 7s,
                              .queue_timeout = 8s,
                              .sticky = 9s,
                              .protocol = link::TargetProtocol::kHttp2}};
  service.deployments[0].task.port = 80;
  Task b = task("b"), a = task("a"), sick = task("c"), leaving = task("d"), stopping = task("e"),
       lost = task("f");
  a.zone = "us-east-1a";
  sick.health = Health::kUnhealthy;
  leaving.draining_since = t0;
  stopping.desired = link::DesiredStatus::kStopped;
  lost.deployment = DeploymentId{"gone"};
  const std::vector<const Task*> tasks{&b, &a, &sick, &leaving, &stopping, &lost};
  auto routes = decide_routes({{"k", &service}}, {{"k", tasks}});
  ASSERT_EQ(routes.size(), 1u);
  EXPECT_EQ(routes[0].host_names, std::vector<std::string>{"s.localhost"});
  EXPECT_EQ(routes[0].awake_min, 1);
  EXPECT_EQ(routes[0].sleep_after, 7s);
  EXPECT_EQ(routes[0].queue_timeout, 8s);
  EXPECT_EQ(routes[0].sticky, 9s);
  EXPECT_EQ(routes[0].protocol, link::TargetProtocol::kHttp2);
  std::string targets;
  for (const link::Target& target : routes[0].targets) {
    targets += fmt::format("{}:{}{} ", target.task.value, target.port,
                           target.state == link::TargetState::kReady ? "" : " draining");
  }
  EXPECT_EQ(targets, "a:80 b:80 d:80 draining ");
  EXPECT_EQ(routes[0].targets[0].zone, "us-east-1a");

  service.status = ServiceStatus::kDraining;
  routes = decide_routes({{"k", &service}}, {{"k", tasks}});
  ASSERT_EQ(routes.size(), 1u) << "its last requests are still counted";
  EXPECT_TRUE(routes[0].host_names.empty()) << "but no new ones come";
  EXPECT_TRUE(decide_routes({{"k", &service}}, {}).empty());
}

TEST(DecideRoutes, EachVersionIsServedAsItsOwnSettingsSay) {
  Service service{.name = "s",
                  .deployments = {{.id = DeploymentId{"new"},
                                   .rollout = RolloutState::kInProgress,
                                   .settings = {{.protocol = link::TargetProtocol::kHttp2}}},
                                  {.id = DeploymentId{"d"}, .rollout = RolloutState::kCompleted}},
                  .routing = {.host_names = {"s.localhost"}, .request_timeout = 9s}};
  const Task old = task("a");
  Task fresh = task("b");
  fresh.deployment = DeploymentId{"new"};
  const auto route = [&](const std::vector<const Task*>& tasks) {
    return decide_routes({{"k", &service}}, {{"k", tasks}}).at(0);
  };
  link::Route seen = route({&old, &fresh});
  ASSERT_EQ(seen.versions.size(), 2u);
  EXPECT_EQ(seen.versions[0].settings->protocol, link::TargetProtocol::kHttp2);
  EXPECT_EQ(seen.versions[0].settings->request_timeout, 120s);
  EXPECT_EQ(seen.versions[1].settings->protocol, link::TargetProtocol::kHttp1);
  EXPECT_EQ(seen.versions[1].settings->request_timeout, 9s) << "an older control's: the service's";
  // Whoever knows nothing of versions' settings, or is told of one version only.
  EXPECT_EQ(seen.request_timeout, 9s);
  service.deployments.pop_back();
  seen = route({&fresh});
  EXPECT_TRUE(seen.versions.empty());
  EXPECT_EQ(seen.protocol, link::TargetProtocol::kHttp2);
  EXPECT_EQ(seen.request_timeout, 120s);
}

}  // namespace
}  // namespace hob::cluster
