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

}  // namespace
}  // namespace hob::cluster
