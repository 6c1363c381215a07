#include "cluster/placement.h"

#include <gtest/gtest.h>

#include <string>

namespace hob::cluster {
namespace {

using namespace std::chrono_literals;
constexpr Instant t0{1'000'000s};

HostView host(std::string id, char zone, int cpu = 4096, int memory = 8192) {
  return {.host = {.id = HostId{std::move(id)},
                   .zone = std::string("z-") + zone,
                   .cpu = cpu,
                   .memory_mib = memory,
                   .connected = true}};
}
HostView with_microvms(HostView host) {
  host.host.microvm = true;
  return host;
}
HostView with_microvms_on_request(HostView host) {
  host.host.can_microvm = true;
  return host;
}
Task isolated(Task task, link::Isolation isolation) {
  task.isolation = isolation;
  return task;
}
HostView away(HostView host, Duration since) {
  host.away_since = t0 + since;
  return host;
}
Task task(std::string id, std::string service = "s", int cpu = 1024, int memory = 2048) {
  return {.id = TaskId{std::move(id)},
          .account = "1",
          .cluster = "c",
          .service = std::move(service),
          .cpu = cpu,
          .memory_mib = memory,
          .created_at = t0};
}
Task placed(Task task, std::string host, char zone, std::string address) {
  task.host = HostId{std::move(host)};
  task.zone = std::string("z-") + zone;
  task.address = std::move(address);
  task.status = TaskStatus::kRunning;
  return task;
}
Task ended(Task task, Duration at) {
  task.status = TaskStatus::kStopped;
  task.desired = link::DesiredStatus::kStopped;
  task.stopped_at = t0 + at;
  return task;
}

std::string decide(const std::vector<HostView>& hosts, const std::vector<Task>& tasks,
                   Duration now = 1s) {
  PlacementView view{.hosts = hosts};
  for (const Task& each : tasks) view.tasks.push_back(&each);
  std::string text;
  for (const PlacementAction& action : decide_placement(view, t0 + now)) {
    if (!text.empty()) text += ", ";
    if (const auto* place = std::get_if<PlaceTask>(&action)) {
      text += fmt::format("{} on {} at {}", place->task.value, place->host.value, place->address);
    } else if (const auto* refuse = std::get_if<RefuseTask>(&action)) {
      text += fmt::format("{} refused: {}", refuse->task.value,
                          refuse->reason.substr(0, refuse->reason.find(". ")));
    } else {
      text += fmt::format("wake {}", (std::get<WakePlacementAt>(action).at - t0) / 1s);
    }
  }
  return text.empty() ? "nothing" : text;
}

TEST(DecidePlacement, Decides) {
  struct Case {
    const char* name;
    std::vector<HostView> hosts;
    std::vector<Task> tasks;
    Duration now;
    const char* want;
  };
  for (const Case& c : {
           Case{"nothing waits", {host("h1", 'a')}, {}, 1s, "nothing"},
           Case{"one host", {host("h1", 'a')}, {task("t1")}, 1s, "t1 on h1 at 198.18.0.4"},
           Case{"zones are spread",
                {host("h1", 'a'), host("h2", 'b')},
                {task("t1"), task("t2")},
                1s,
                "t1 on h1 at 198.18.0.4, t2 on h2 at 198.18.16.4"},
           Case{"each service for itself",
                {host("h1", 'a'), host("h2", 'b', 4096, 4096)},
                {placed(task("t1", "other"), "h1", 'a', "198.18.0.4"), task("t2")},
                1s,
                "t2 on h1 at 198.18.0.5"},
           Case{"then the host with fewest of the service",
                {host("h1", 'a'), host("h2", 'a')},
                {placed(task("t1"), "h1", 'a', "198.18.0.4"), task("t2")},
                1s,
                "t2 on h2 at 198.18.0.5"},
           Case{"then most memory free",
                {host("h1", 'a', 4096, 4096), host("h2", 'a', 4096, 8192)},
                {task("t1")},
                1s,
                "t1 on h2 at 198.18.0.4"},
           Case{"the fuller zone if only that has room",
                {host("h1", 'a'), host("h2", 'b', 512, 512)},
                {placed(task("t1"), "h1", 'a', "198.18.0.4"), task("t2")},
                1s,
                "t2 on h1 at 198.18.0.5"},
           Case{"exactly enough",
                {host("h1", 'a', 1024, 2048)},
                {task("t1")},
                1s,
                "t1 on h1 at 198.18.0.4"},
           Case{"one MiB short: waits", {host("h1", 'a', 1024, 2047)}, {task("t1")}, 9s, "wake 10"},
           Case{"one MiB short: refused",
                {host("h1", 'a', 1024, 2047)},
                {task("t1")},
                10s,
                "t1 refused: RESOURCE:MEMORY: the task needs 2048 MiB; the host with most free, "
                "h1, has 2047 of 2047 MiB"},
           Case{"exactly enough for a microVM",
                {with_microvms(host("h1", 'a', 2048, 2048 + 128))},
                {task("t1")},
                1s,
                "t1 on h1 at 198.18.0.4"},
           Case{"one MiB short of a microVM",
                {with_microvms(host("h1", 'a', 1024, 2048 + 127))},
                {task("t1")},
                10s,
                "t1 refused: RESOURCE:MEMORY: the task needs 2048 MiB and 128 for its microVM; the "
                "host with most free, h1, has 2175 of 2175 MiB"},
           Case{"microVMs that run take theirs, too",
                {with_microvms(host("h1", 'a', 4096, 2 * 2048 + 128 + 127))},
                {placed(task("t1"), "h1", 'a', "198.18.0.4"), task("t2")},
                1s,
                "wake 10"},
           Case{"a microVM, where one can be had",
                {host("h1", 'a'), with_microvms_on_request(host("h2", 'b', 2048, 4096))},
                {isolated(task("t1"), link::Isolation::kMicrovm)},
                1s,
                "t1 on h2 at 198.18.16.4"},
           Case{"a microVM, where all are",
                {host("h1", 'a'), with_microvms(host("h2", 'b', 2048, 4096))},
                {isolated(task("t1"), link::Isolation::kMicrovm)},
                1s,
                "t1 on h2 at 198.18.16.4"},
           Case{"one that was asked for takes its own, too",
                {with_microvms_on_request(host("h1", 'a', 4096, 2 * 2048 + 128 + 127))},
                {isolated(task("t1"), link::Isolation::kMicrovm),
                 isolated(task("t2"), link::Isolation::kMicrovm)},
                1s,
                "t1 on h1 at 198.18.0.4, wake 10"},
           Case{"a container among microVMs takes nothing more",
                {with_microvms(host("h1", 'a', 1024, 2048))},
                {isolated(task("t1"), link::Isolation::kContainer)},
                1s,
                "t1 on h1 at 198.18.0.4"},
           Case{"no host has microVMs: refused",
                {host("h1", 'a')},
                {isolated(task("t1"), link::Isolation::kMicrovm)},
                10s,
                "t1 refused: RESOURCE:ATTRIBUTE: the service asks for a microVM (hob:isolation), "
                "and no host that is connected can run one"},
           Case{"what a host without microVMs has free is no comfort",
                {host("h1", 'a'), with_microvms_on_request(host("h2", 'b', 4096, 1024))},
                {isolated(task("t1"), link::Isolation::kMicrovm)},
                10s,
                "t1 refused: RESOURCE:MEMORY: the task needs 2048 MiB and 128 for its microVM; the "
                "host with most free, h2, has 1024 of 1024 MiB"},
           Case{"no CPU",
                {host("h1", 'a', 1023, 4096)},
                {task("t1")},
                10s,
                "t1 refused: RESOURCE:CPU: the task needs 1024 units (1024 are a vCPU); the host "
                "with most free, h1, has 1023 of 1023"},
           Case{"stopping tasks hold their room",
                {host("h1", 'a', 1024, 2048)},
                {placed(task("t1"), "h1", 'a', "198.18.0.4"), task("t2")},
                1s,
                "wake 10"},
           Case{"stopped ones do not, but their address rests",
                {host("h1", 'a', 1024, 2048)},
                {ended(placed(task("t1"), "h1", 'a', "198.18.0.4"), 0s), task("t2")},
                1s,
                "t2 on h1 at 198.18.0.5"},
           Case{"a host that is away gets nothing",
                {away(host("h1", 'a'), 0s)},
                {task("t1")},
                1s,
                "wake 60"},
           Case{"no host at all",
                {},
                {task("t1")},
                60s,
                "t1 refused: RESOURCE:AGENT: no host is connected"},
           Case{"a zone without a subnet",
                {host("h1", 'x')},
                {task("t1")},
                10s,
                "t1 refused: RESOURCE:ENI: every address of zone z-x is in use"},
           Case{"a stopped one is not placed",
                {host("h1", 'a')},
                {ended(task("t1"), 0s)},
                1s,
                "nothing"},
       }) {
    EXPECT_EQ(decide(c.hosts, c.tasks, c.now), c.want) << c.name;
  }
}

TEST(DecidePlacement, NeverGivesAnAddressTwice) {
  std::vector<Task> tasks;
  for (int i = 0; i < 200; ++i)
    tasks.push_back(task(fmt::format("t{:03}", i), fmt::format("s{}", i % 7), 1, 1));
  PlacementView view{.hosts = {host("h1", 'a'), host("h2", 'a'), host("h3", 'b')}};
  for (const Task& each : tasks) view.tasks.push_back(&each);
  std::set<std::string> addresses;
  for (const PlacementAction& action : decide_placement(view, t0)) {
    ASSERT_TRUE(std::holds_alternative<PlaceTask>(action));
    EXPECT_TRUE(addresses.insert(std::get<PlaceTask>(action).address).second);
  }
  EXPECT_EQ(addresses.size(), 200u);
}

TEST(LostHosts, OnlyWhereThereIsAnother) {
  std::optional<Instant> wake;
  EXPECT_TRUE(lost_hosts({away(host("h1", 'a'), 0s)}, t0 + 1h, wake).empty());
  EXPECT_FALSE(wake);
  const std::vector<HostView> two{away(host("h1", 'a'), 0s), host("h2", 'a')};
  EXPECT_TRUE(lost_hosts(two, t0 + 59s, wake).empty());
  EXPECT_EQ(wake, t0 + 60s);
  EXPECT_EQ(lost_hosts(two, t0 + 60s, wake), std::vector<HostId>{HostId{"h1"}});
}

TEST(GoneHosts, GoWhenNoTaskOfTheirsIsLeft) {
  const auto task_on = [](const char* host_id, TaskStatus status, link::DesiredStatus desired) {
    return Task{.id = TaskId{"t"}, .host = HostId{host_id}, .desired = desired, .status = status};
  };
  const auto running = link::DesiredStatus::kRunning;
  const auto told_to_stop = link::DesiredStatus::kStopped;
  struct Case {
    const char* name;
    Duration now;
    std::vector<Task> tasks;
    const char* want;
  };
  for (const Case& c : {
           Case{"not yet", 24h - 1ms, {}, ""},
           Case{"a day away", 24h, {}, "forget h1"},
           Case{"a task of it ended long ago",
                24h,
                {task_on("h1", TaskStatus::kStopped, told_to_stop)},
                "forget h1"},
           Case{"one was told to stop and nobody said that it did",
                24h,
                {task_on("h1", TaskStatus::kStopping, told_to_stop)},
                "end t"},
           Case{"one was never replaced", 99h, {task_on("h1", TaskStatus::kRunning, running)}, ""},
           Case{"another host's task",
                24h,
                {task_on("h2", TaskStatus::kStopping, told_to_stop)},
                "forget h1"},
       }) {
    PlacementView view{.hosts = {away(host("h1", 'a'), 0s), host("h2", 'a')}};
    for (const Task& task : c.tasks) view.tasks.push_back(&task);
    std::string said;
    for (const GoneHostAction& action : decide_gone_hosts(view, t0 + c.now)) {
      const auto* end = std::get_if<EndTask>(&action);
      said += end != nullptr ? "end " + end->task.value
                             : "forget " + std::get<ForgetHost>(action).host.value;
    }
    EXPECT_EQ(said, c.want) << c.name;
  }
}

}  // namespace
}  // namespace hob::cluster
