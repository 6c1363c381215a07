// Versions of a service side by side: requests go by weight, or by a version's own name.
#include <map>

#include "edge/balancer.h"
#include "edge/test_rig.h"

namespace hob::edge {
namespace {

TEST(Versions, ShareByWeightAndFailOpen) {
  struct Case {
    const char* name;
    std::vector<VersionView> versions;
    std::vector<int> want;
  };
  for (const Case& c : {
           Case{"none", {}, {}},
           Case{"the only one", {{100, true}}, {100}},
           Case{"a canary", {{95, true}, {5, true}}, {95, 5}},
           Case{"none without weight", {{100, true}, {0, true}}, {100, 0}},
           Case{"none without targets", {{95, false}, {5, true}}, {0, 5}},
           Case{"only one without weight has targets", {{100, false}, {0, true}}, {0, 1}},
           Case{"nobody has a weight", {{0, true}, {0, false}, {0, true}}, {1, 0, 1}},
           Case{"nobody has targets: where the weight is", {{0, false}, {100, false}}, {0, 100}},
           Case{"nothing at all: the first", {{0, false}, {0, false}}, {1, 0}},
       }) {
    EXPECT_EQ(shares_of(c.versions), c.want) << c.name;
  }
}

TEST(Versions, ArePickedAsOftenAsTheirSharesSay) {
  const std::vector<int> shares = {0, 70, 25, 5, 0};
  std::vector<int> picked(shares.size(), 0);
  for (uint64_t random = 0; random < 1'000; ++random)
    ++picked[pick_version(shares.size(), 100, random, [&](size_t i) { return shares[i]; })];
  EXPECT_EQ(picked, (std::vector<int>{0, 700, 250, 50, 0}));
}

class VersionsTest : public ::testing::TestWithParam<Io> {};
INSTANTIATE_TEST_SUITE_P(Io, VersionsTest, ::testing::ValuesIn(available_io()), io_test_name);

link::Target target_of(uint16_t port, const char* version) {
  return {.task = TaskId{std::to_string(port)},
          .address = "127.0.0.1",
          .port = port,
          .version = version};
}

// "old" and "new", a backend each, with names "old.local" and "new.local".
link::Route two_versions(Rig& rig, const Backend& before, const Backend& after, int old_weight,
                         int new_weight) {
  link::Route route = rig.route({});
  route.queue_timeout = Duration(60'000);
  route.targets = {target_of(before.port(), "old"), target_of(after.port(), "new")};
  route.versions = {{.id = "old", .weight = old_weight, .host_names = {"old.local"}},
                    {.id = "new", .weight = new_weight, .host_names = {"new.local"}}};
  return route;
}

std::string who(const Rig& rig, std::string_view host) {
  Connection client = rig.connect();
  client.write(fmt::format("GET /who HTTP/1.1\r\nHost: {}\r\n\r\n", host));
  return read_answer(client).body;
}

std::string named(const Backend& backend) { return std::to_string(backend.port()); }

// What the last report that named the version said.
std::map<std::string, link::VersionLoad> versions_of(Rig& rig, uint64_t requests) {
  std::map<std::string, link::VersionLoad> loads;
  Rig::wait_until([&] {
    for (const link::VersionLoad& load : rig.report().versions) loads[load.version] = load;
    uint64_t sum = 0;
    for (const auto& [id, load] : loads) sum += static_cast<uint64_t>(load.requests_total);
    return sum >= requests;
  });
  return loads;
}

TEST_P(VersionsTest, GetRequestsByWeightAndByTheirOwnNames) {
  Backend before, after;
  Rig rig(GetParam());
  rig.apply({two_versions(rig, before, after, 100, 0)});
  for (int i = 0; i < 30; ++i) {
    EXPECT_EQ(who(rig, "test.local"), named(before));
    EXPECT_EQ(who(rig, "new.local"), named(after));
  }
  rig.apply({two_versions(rig, before, after, 50, 50)});
  std::map<std::string, int> seen;
  for (int i = 0; i < 60; ++i) ++seen[who(rig, "test.local")];
  EXPECT_GE(seen[named(before)], 10);
  EXPECT_GE(seen[named(after)], 10);
  EXPECT_EQ(who(rig, "old.local"), named(before));
  rig.apply({two_versions(rig, before, after, 0, 100)});
  for (int i = 0; i < 30; ++i) EXPECT_EQ(who(rig, "test.local"), named(after));
}

TEST_P(VersionsTest, CountWhatBecameOfTheirRequests) {
  Backend before, after;
  Rig rig(GetParam());
  rig.apply({two_versions(rig, before, after, 100, 0)});
  for (const char* path : {"/hello", "/500", "/garbage", "/die", "/drop", "/404"}) {
    Connection client = rig.connect();
    client.write(fmt::format("GET {} HTTP/1.1\r\nHost: new.local\r\n\r\n", path));
    (void)read_answer(client);
  }
  EXPECT_EQ(rig.get("/hello").status, 200);
  const auto loads = versions_of(rig, 7);
  EXPECT_EQ(loads.at("new").requests_total, 6);
  EXPECT_EQ(loads.at("new").failures_total, 4);
  EXPECT_EQ(loads.at("new").service, "s1");
  EXPECT_EQ(loads.at("old").requests_total, 1);
  EXPECT_EQ(loads.at("old").failures_total, 0);
  EXPECT_TRUE(Rig::wait_until([&] {
    return rig.metrics.render().find(
               "hob_edge_version_failures_total{service=\"s1\",version=\"new\"} 4") !=
           std::string::npos;
  })) << rig.metrics.render();
}

TEST_P(VersionsTest, SendARequestElsewhereWhenNoTargetOfTheirsTakesIt) {
  Backend before;
  uint16_t gone = 0;
  {
    const Backend closed;
    gone = closed.port();
  }
  Rig rig(GetParam());
  link::Route route = two_versions(rig, before, before, 1, 99);
  route.targets[1] = target_of(gone, "new");
  route.queue_timeout = Duration(100);
  rig.apply({route});
  for (int i = 0; i < 10; ++i) EXPECT_EQ(who(rig, "test.local"), named(before));
  // Its own name is no way to another version.
  Connection client = rig.connect();
  client.write("GET /who HTTP/1.1\r\nHost: new.local\r\n\r\n");
  EXPECT_EQ(read_answer(client).status, 502);
}

TEST_P(VersionsTest, HandTheirWaitingRequestsOverWhenTheyLoseTheirWeight) {
  Backend before, after;
  Rig rig(GetParam());
  link::Route route = two_versions(rig, before, after, 0, 100);
  route.max_concurrency = 1;
  rig.apply({route});
  Connection busy = rig.connect();
  busy.write("GET /wait HTTP/1.1\r\nHost: test.local\r\n\r\n");
  EXPECT_TRUE(after.wait_for_requests(1));
  Connection held = rig.connect();
  held.write("GET /who HTTP/1.1\r\nHost: test.local\r\n\r\n");
  Connection by_name = rig.connect();
  by_name.write("GET /who HTTP/1.1\r\nHost: new.local\r\n\r\n");
  EXPECT_TRUE(Rig::wait_until([&] {
    const link::EdgeReport report = rig.report();
    return !report.services.empty() && report.services[0].queued == 2;
  }));
  route.versions[0].weight = 100;
  route.versions[1].weight = 0;
  rig.apply({route});
  EXPECT_EQ(read_answer(held).body, named(before));
  after.gate.open();
  EXPECT_EQ(read_answer(busy).body, "waited");
  EXPECT_EQ(read_answer(by_name).body, named(after));
}

TEST_P(VersionsTest, ThatAreDroppedLeaveTheirWaitingRequestsToTheOthers) {
  Backend before, after;
  Rig rig(GetParam());
  link::Route route = two_versions(rig, before, after, 0, 100);
  route.max_concurrency = 1;
  rig.apply({route});
  Connection busy = rig.connect();
  busy.write("GET /wait HTTP/1.1\r\nHost: test.local\r\n\r\n");
  EXPECT_TRUE(after.wait_for_requests(1));
  Connection held = rig.connect();
  held.write("GET /who HTTP/1.1\r\nHost: test.local\r\n\r\n");
  EXPECT_TRUE(Rig::wait_until([&] {
    const link::EdgeReport report = rig.report();
    return !report.services.empty() && report.services[0].queued == 1;
  }));
  route.versions.pop_back();
  route.targets.pop_back();
  rig.apply({route});
  EXPECT_EQ(read_answer(held).body, named(before));
  after.gate.open();
  EXPECT_EQ(read_answer(busy).body, "waited");
}

// A canary that hangs fills its own places; who comes after is served by the others.
TEST_P(VersionsTest, ThatAreFullLetOthersTakeOver) {
  Backend before, after;
  Rig rig(GetParam());
  link::Route route = two_versions(rig, before, after, 1, 999'999);
  route.max_concurrency = 1;
  rig.apply({route});
  Connection busy = rig.connect();
  busy.write("GET /wait HTTP/1.1\r\nHost: new.local\r\n\r\n");
  EXPECT_TRUE(after.wait_for_requests(1));
  for (int i = 0; i < 5; ++i) EXPECT_EQ(who(rig, "test.local"), named(before));
  after.gate.open();
  EXPECT_EQ(read_answer(busy).body, "waited");
}

}  // namespace
}  // namespace hob::edge
