// Change under load: routes, targets that drain, an edge that stops, control that is not there.
#include <filesystem>

#include "base/ids.h"
#include "edge/control_test_rig.h"
#include "edge/test_rig.h"

namespace hob::edge {
namespace {

class ChangeTest : public ::testing::TestWithParam<Io> {};
INSTANTIATE_TEST_SUITE_P(Io, ChangeTest, ::testing::ValuesIn(available_io()), io_test_name);

TEST_P(ChangeTest, LosesNoRequestThroughAHundredRouteChanges) {
  Backend first;
  Backend second;
  Backend third;
  Rig rig(GetParam(), 2);
  rig.apply({rig.route({&first, &second})});
  std::atomic<bool> done = false;
  std::atomic<int> good = 0;
  std::atomic<int> bad = 0;
  std::vector<std::thread> clients;
  for (int i = 0; i < 4; ++i) {
    clients.emplace_back([&, i] {
      while (!done) {
        Connection client = rig.connect();
        for (int k = 0; k < 20; ++k) {
          client.write(
              i % 2 == 0
                  ? "GET /hello HTTP/1.1\r\nHost: test.local\r\n\r\n"
                  : "POST /length HTTP/1.1\r\nHost: test.local\r\nContent-Length: 5\r\n\r\nabcde");
          const Answer answer = read_answer(client);
          (answer.status == 200 && answer.whole ? good : bad)++;
        }
      }
    });
  }
  for (int i = 0; i < 100; ++i) {
    link::Route route = i % 3 == 0   ? rig.route({&first, &second})
                        : i % 3 == 1 ? rig.route({&second, &third})
                                     : rig.route({&third, &first});
    if (i % 3 == 1) {
      link::Route leaving = rig.route({&first});
      leaving.targets[0].state = link::TargetState::kDraining;
      route.targets.push_back(leaving.targets[0]);
    }
    route.max_concurrency = 1 + i % 5;
    rig.apply({route});
  }
  // Not before the load has really run.
  EXPECT_TRUE(Rig::wait_until([&] { return good + bad > 500; }));
  done = true;
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(bad, 0);
}

TEST_P(ChangeTest, DrainsATargetAndSaysWhenItIsIdle) {
  Backend old;
  Backend fresh;
  Rig rig(GetParam());
  rig.apply({rig.route({&old})});
  Connection busy = rig.connect();
  busy.write("GET /wait HTTP/1.1\r\nHost: test.local\r\n\r\n");
  EXPECT_TRUE(old.wait_for_requests(1));
  link::Route route = rig.route({&old, &fresh});
  route.targets[0].state = link::TargetState::kDraining;
  rig.apply({route});
  for (int i = 0; i < 20; ++i) EXPECT_EQ(rig.get("/who").body, std::to_string(fresh.port()));
  link::EdgeReport report = rig.report();
  ASSERT_EQ(report.targets.size(), 1u);
  EXPECT_EQ(report.targets[0].in_flight, 1);
  old.gate.open();
  EXPECT_EQ(read_answer(busy).body, "waited");
  EXPECT_TRUE(Rig::wait_until([&] {
    report = rig.report();
    return report.targets.size() == 1 && report.targets[0].in_flight == 0;
  }));
}

TEST_P(ChangeTest, LetsRequestsEndWhenItStops) {
  Backend backend;
  Rig rig(GetParam());
  rig.apply({rig.route({&backend})});
  Connection idle = rig.connect();
  idle.write("GET /hello HTTP/1.1\r\nHost: test.local\r\n\r\n");
  EXPECT_EQ(read_answer(idle).body, "hello");
  Connection busy = rig.connect();
  busy.write("GET /wait HTTP/1.1\r\nHost: test.local\r\n\r\n");
  EXPECT_TRUE(backend.wait_for_requests(2));
  std::thread stopping([&] { rig.stop(Duration(20'000)); });
  EXPECT_EQ(idle.read_to_end(), "");  // closed at once
  backend.gate.open();
  const Answer answer = read_answer(busy);
  EXPECT_EQ(answer.body, "waited");
  EXPECT_TRUE(answer.has("Connection: close\r\n")) << answer.head;
  busy.close();
  stopping.join();
}

TEST_P(ChangeTest, CutsOffWhatOutlastsTheGrace) {
  Backend backend;
  Rig rig(GetParam());
  rig.apply({rig.route({&backend})});
  Connection busy = rig.connect();
  busy.write("GET /wait HTTP/1.1\r\nHost: test.local\r\n\r\n");
  EXPECT_TRUE(backend.wait_for_requests(1));
  rig.stop(Duration(50));
  EXPECT_EQ(read_answer(busy).status, 0);
}

TEST_P(ChangeTest, ServesFromTheLastTableWhileControlIsDead) {
  Backend backend;
  SystemRandom random;
  const std::string directory =
      std::filesystem::temp_directory_path() / ("hob-edge-test-" + random_hex(random, 16));
  std::filesystem::create_directories(directory);
  const std::string socket = directory + "/control";
  const link::Route route{
      .service = "s1",
      .host_names = {"test.local"},
      .targets = {{.task = TaskId{"t"}, .address = "127.0.0.1", .port = backend.port()}}};
  {
    // The edge is there first and finds control when it comes.
    Rig rig(GetParam(), 1, {}, socket, directory);
    EXPECT_EQ(rig.get("/hello").status, 404);
    {
      Control control(socket);
      control.table = {.version = 7, .routes = {route}};
      EXPECT_TRUE(Rig::wait_until([&] { return control.applied == 7; }));
      EXPECT_EQ(rig.get("/hello").body, "hello");
    }
    EXPECT_EQ(rig.get("/hello").body, "hello");
  }
  {
    Rig rig(GetParam(), 1, {}, socket, directory);
    EXPECT_TRUE(Rig::wait_until([&] { return rig.report().applied_version == 7; }));
    EXPECT_EQ(rig.get("/hello").body, "hello");
  }
  // A file that is damaged is no reason not to start.
  ASSERT_TRUE(write_file_durably(directory + "/routes.json", "{\"version\":", 0600).has_value());
  {
    Rig rig(GetParam(), 1, {}, socket, directory);
    EXPECT_EQ(rig.get("/hello").status, 404);
  }
  std::filesystem::remove_all(directory);
}

TEST_P(ChangeTest, MeasuresEachService) {
  Backend backend;
  Rig rig(GetParam());
  rig.apply({rig.route({&backend})});
  for (int i = 0; i < 3; ++i) EXPECT_EQ(rig.get("/hello").status, 200);
  EXPECT_EQ(rig.get("/500").status, 500);
  EXPECT_TRUE(Rig::wait_until([&] {
    const std::string text = rig.metrics.render();
    return text.find("hob_edge_requests_total{class=\"2xx\",service=\"s1\"} 3") !=
               std::string::npos &&
           text.find("hob_edge_requests_total{class=\"5xx\",service=\"s1\"} 1") !=
               std::string::npos &&
           text.find("hob_edge_request_duration_seconds_bucket{le=\"+Inf\",service=\"s1\"} 4") !=
               std::string::npos;
  })) << rig.metrics.render();
}

}  // namespace
}  // namespace hob::edge
