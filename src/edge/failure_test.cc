// What the edge does when something is wrong: with the request, with a target, with nobody being
// there.
#include "edge/test_rig.h"

namespace hob::edge {
namespace {

class FailureTest : public ::testing::TestWithParam<Io> {};
INSTANTIATE_TEST_SUITE_P(Io, FailureTest, ::testing::ValuesIn(available_io()), io_test_name);

// A port where nothing listens: bound, so that nobody else takes it.
struct DeadPort {
  DeadPort() : fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }
  link::Target target() const {
    return {.task = TaskId{"dead" + std::to_string(port_of(fd.get()))},
            .address = "127.0.0.1",
            .port = port_of(fd.get())};
  }
  Fd fd;
};

TEST_P(FailureTest, AnswersBadResponsesWithBadGateway) {
  Backend backend;
  Rig rig(GetParam());
  rig.apply({rig.route({&backend})});
  struct Case {
    const char* path;
    const char* title;
  };
  for (const Case& c : {Case{"/garbage", "nonsense"}, Case{"/two-lengths", "nonsense"},
                        Case{"/large-head", "nonsense"}, Case{"/drop", "broke off"}}) {
    // Twice: a page of ours does not end the client's connection.
    Connection client = rig.connect();
    for (int i = 0; i < 2; ++i) {
      client.write(fmt::format("GET {} HTTP/1.1\r\nHost: test.local\r\n\r\n", c.path));
      const Answer answer = read_answer(client);
      EXPECT_EQ(answer.status, 502) << c.path;
      EXPECT_NE(answer.body.find(c.title), std::string::npos) << answer.body;
      EXPECT_TRUE(answer.has("x-amzn-requestid: ")) << answer.head;
    }
  }
}

TEST_P(FailureTest, CutsOffAnAnswerThatItsTargetDoesNotComplete) {
  Backend backend;
  Rig rig(GetParam());
  rig.apply({rig.route({&backend})});
  const Answer answer = rig.get("/die");
  EXPECT_EQ(answer.status, 200);
  EXPECT_FALSE(answer.whole);
  EXPECT_EQ(rig.get("/hello").body, "hello");
}

TEST_P(FailureTest, RefusesHostsItDoesNotKnow) {
  Backend backend;
  Rig rig(GetParam());
  rig.apply({rig.route({&backend})});
  Connection client = rig.connect();
  client.write("GET / HTTP/1.1\r\nHost: <other>.local\r\n\r\n");
  EXPECT_EQ(read_answer(client).status, 400);
  Connection second = rig.connect();
  second.write("GET / HTTP/1.1\r\nHost: other.local\r\nAccept: text/html,*/*\r\n\r\n");
  const Answer page = read_answer(second);
  EXPECT_EQ(page.status, 404);
  EXPECT_TRUE(page.has("Content-Type: text/html")) << page.head;
  EXPECT_NE(page.body.find("other.local"), std::string::npos) << page.body;
  second.write("GET / HTTP/1.1\r\nHost: other.local\r\nAccept: application/json\r\n\r\n");
  const Answer json = read_answer(second);
  EXPECT_EQ(json.status, 404);
  EXPECT_TRUE(json.body.starts_with("{\"status\":404,")) << json.body;
  second.write("GET /hello HTTP/1.1\r\nHost: TEST.Local.:8080\r\n\r\n");
  EXPECT_EQ(read_answer(second).body, "hello");
}

TEST_P(FailureTest, SaysThatAServiceIsPaused) {
  Backend backend;
  Rig rig(GetParam());
  link::Route route = rig.route({&backend});
  route.state = link::RouteState::kPaused;
  rig.apply({route});
  const Answer answer = rig.get("/hello");
  EXPECT_EQ(answer.status, 503);
  EXPECT_NE(answer.body.find("The service shop is paused"), std::string::npos) << answer.body;
  EXPECT_TRUE(answer.has("Retry-After: ")) << answer.head;
}

TEST_P(FailureTest, TriesAnotherTargetWhenNothingWasSent) {
  Backend backend;
  DeadPort dead;
  Rig rig(GetParam());
  link::Route route = rig.route({&backend});
  route.targets.push_back(dead.target());
  rig.apply({route});
  for (int i = 0; i < 50; ++i) {
    Connection client = rig.connect();
    // Not even a POST is lost: the dead target never saw it.
    client.write("POST /length HTTP/1.1\r\nHost: test.local\r\nContent-Length: 5\r\n\r\nabcde");
    ASSERT_EQ(read_answer(client).body, "5") << i;
  }
}

TEST_P(FailureTest, SaysThatNoTargetAcceptsConnections) {
  DeadPort dead;
  Rig rig(GetParam());
  link::Route route = rig.route({});
  route.targets.push_back(dead.target());
  route.queue_timeout = Duration(100);
  rig.apply({route});
  EXPECT_EQ(rig.get("/hello").status, 502);
}

TEST_P(FailureTest, WaitsForATargetThatIsBeingStartedAgain) {
  uint16_t port = 0;
  {
    const Backend before;
    port = before.port();
  }
  Rig rig(GetParam());
  link::Route route = rig.route({});
  route.targets.push_back({.task = TaskId{"t"}, .address = "127.0.0.1", .port = port});
  route.queue_timeout = Duration(60'000);
  rig.apply({route});
  // Not even a POST, its body in pieces, is lost: nobody has seen it.
  Connection client = rig.connect();
  client.write("POST /length HTTP/1.1\r\nHost: test.local\r\nContent-Length: 10\r\n\r\nabcde");
  EXPECT_TRUE(Rig::wait_until([&] { return rig.usage().upstream_opened >= 3; }));
  client.write("fghij");
  Backend again(Backend::serve_by_path, port);
  EXPECT_EQ(read_answer(client).body, "10");
}

// One of the dead targets cannot be ejected: half of the requests try it, and are all answered.
TEST_P(FailureTest, PutsOffRetriesOverBudgetAndLosesNoRequest) {
  Backend backend;
  const DeadPort first, second, third;
  Rig rig(GetParam());
  link::Route route = rig.route({&backend});
  for (const DeadPort* dead : {&first, &second, &third}) route.targets.push_back(dead->target());
  route.queue_timeout = Duration(60'000);
  rig.apply({route});
  const auto put_off = [&] {
    return rig.metrics.render().find("hob_edge_retries_put_off_total{service=\"s1\"}") !=
           std::string::npos;
  };
  EXPECT_TRUE(Rig::wait_until([&] {
    EXPECT_EQ(rig.get("/hello").body, "hello");
    return put_off();
  }));
}

TEST_P(FailureTest, LetsGoOfARequestWhoseClientLeavesWhileItRests) {
  const DeadPort dead;
  Rig rig(GetParam());
  link::Route route = rig.route({});
  route.targets.push_back(dead.target());
  route.queue_timeout = Duration(60'000);
  rig.apply({route});
  Connection client = rig.connect();
  client.write("GET /hello HTTP/1.1\r\nHost: test.local\r\n\r\n");
  EXPECT_TRUE(Rig::wait_until([&] { return rig.usage().upstream_opened >= 3; }));
  client.reset();
  EXPECT_TRUE(Rig::wait_until([&] { return rig.usage().connections == 0; }));
}

TEST_P(FailureTest, LeavesOutATargetThatFailsAgainAndAgain) {
  // It accepts and drops: every request is a gateway error, and one that must not be sent twice an
  // answer, too.
  Backend bad([](Connection& connection, Backend& backend) {
    const std::string head = connection.read_head();
    if (!head.empty()) backend.note(head);
  });
  Backend good;
  Rig rig(GetParam());
  rig.apply({rig.route({&bad, &good})});
  int failed = 0;
  for (int i = 0; i < 100; ++i) {
    Connection client = rig.connect();
    client.write("POST /hello HTTP/1.1\r\nHost: test.local\r\nContent-Length: 0\r\n\r\n");
    if (read_answer(client).status != 200) ++failed;
  }
  // Five in a row, then it is left out (for a second at first: a slow machine may see it come
  // back).
  EXPECT_GE(failed, 5);
  EXPECT_LE(failed, 12);
}

TEST_P(FailureTest, SendsAgainWhatAnIdleConnectionSwallowed) {
  // Each connection answers once and then closes, as if its keep-alive had run out just now.
  Gate close_now;
  Backend backend([&](Connection& connection, Backend& self) {
    std::string head = connection.read_head();
    if (head.empty()) return;
    self.note(head);
    connection.write(answer_with("once"));
    head = connection.read_head();  // swallowed
    if (!head.empty()) self.note("swallowed " + head.substr(0, head.find(' ')));
  });
  Rig rig(GetParam());
  rig.apply({rig.route({&backend})});
  Connection client = rig.connect();
  client.write("GET /1 HTTP/1.1\r\nHost: test.local\r\n\r\n");
  EXPECT_EQ(read_answer(client).body, "once");
  client.write("PUT /2 HTTP/1.1\r\nHost: test.local\r\nContent-Length: 4\r\n\r\nbody");
  EXPECT_EQ(read_answer(client).body, "once");
  EXPECT_EQ(backend.connections(), 2);
  // What may not be done twice is not sent twice.
  client.write("POST /3 HTTP/1.1\r\nHost: test.local\r\nContent-Length: 4\r\n\r\nbody");
  EXPECT_EQ(read_answer(client).status, 502);
  EXPECT_EQ(backend.connections(), 2);
}

TEST_P(FailureTest, EndsARequestThatTakesTooLong) {
  Backend backend;
  Rig rig(GetParam());
  link::Route route = rig.route({&backend});
  route.request_timeout = Duration(100);
  rig.apply({route});
  const Answer answer = rig.get("/wait");
  EXPECT_EQ(answer.status, 504);
  EXPECT_NE(answer.body.find("took too long"), std::string::npos) << answer.body;
}

TEST_P(FailureTest, EndsARequestThatStandsStill) {
  Backend backend;
  Rig rig(GetParam());
  link::Route route = rig.route({&backend});
  route.idle_timeout = Duration(100);
  rig.apply({route});
  EXPECT_EQ(rig.get("/wait").status, 504);
  // Here it is the client that stands still.
  Connection client = rig.connect();
  client.write("POST /length HTTP/1.1\r\nHost: test.local\r\nContent-Length: 5\r\n\r\nab");
  const Answer answer = read_answer(client);
  EXPECT_EQ(answer.status, 408);
  EXPECT_EQ(client.read_to_end(), "");
}

TEST_P(FailureTest, EndsAHeadThatTrickles) {
  Rig rig(GetParam(), 1, Times{.header = 100});
  rig.apply({rig.route({})});
  Connection client = rig.connect();
  client.write("GET / HTTP/1.1\r\nHost: te");
  EXPECT_EQ(read_answer(client).status, 408);
  EXPECT_EQ(client.read_to_end(), "");
}

TEST_P(FailureTest, ClosesIdleConnections) {
  Backend backend;
  Rig rig(GetParam(), 1, Times{.keep_alive_client = 100, .keep_alive_target = 100});
  rig.apply({rig.route({&backend})});
  Connection client = rig.connect();
  client.write("GET /hello HTTP/1.1\r\nHost: test.local\r\n\r\n");
  EXPECT_EQ(read_answer(client).body, "hello");
  EXPECT_EQ(client.read_to_end(), "");
  EXPECT_TRUE(Rig::wait_until([&] { return rig.usage().upstream_connections == 0; }));
}

TEST_P(FailureTest, HoldsRequestsUntilATargetIsThere) {
  Backend backend;
  Rig rig(GetParam());
  rig.apply({rig.route({})});
  Connection client = rig.connect();
  client.write("POST /length HTTP/1.1\r\nHost: test.local\r\nContent-Length: 5\r\n\r\nabcde");
  EXPECT_TRUE(Rig::wait_until([&] {
    const link::EdgeReport report = rig.report();
    return report.services.size() == 1 && report.services[0].queued == 1;
  }));
  rig.apply({rig.route({&backend})});
  EXPECT_EQ(read_answer(client).body, "5");
}

TEST_P(FailureTest, SaysThatNoTargetCameFree) {
  Rig rig(GetParam());
  link::Route route = rig.route({});
  route.queue_timeout = Duration(100);
  rig.apply({route});
  const Answer answer = rig.get("/hello");
  EXPECT_EQ(answer.status, 503);
  EXPECT_TRUE(answer.has("Retry-After: ")) << answer.head;
  EXPECT_NE(answer.body.find("not ready"), std::string::npos) << answer.body;
}

TEST_P(FailureTest, GivesATargetNoMoreThanItTakesAtOnce) {
  Backend backend;
  Rig rig(GetParam(), 2);
  link::Route route = rig.route({&backend});
  route.max_concurrency = 2;
  rig.apply({route});
  std::vector<Connection> clients;
  for (int i = 0; i < 8; ++i) {
    clients.push_back(rig.connect());
    clients.back().write("GET /wait HTTP/1.1\r\nHost: test.local\r\n\r\n");
  }
  EXPECT_TRUE(backend.wait_for_requests(2));
  EXPECT_TRUE(Rig::wait_until([&] {
    const link::EdgeReport report = rig.report();
    return !report.services.empty() && report.services[0].queued == 6 &&
           report.targets.size() == 1 && report.targets[0].in_flight == 2;
  }));
  EXPECT_EQ(backend.requests().size(), 2u);
  backend.gate.open();
  for (Connection& client : clients) EXPECT_EQ(read_answer(client).body, "waited");
}

TEST_P(FailureTest, QueuesNoMoreThanItsBound) {
  Rig rig(GetParam());
  rig.apply({rig.route({})});
  std::vector<Connection> clients;
  for (size_t i = 0; i < kQueuedPerServiceMax; ++i) {
    clients.push_back(rig.connect());
    clients.back().write("GET /hello HTTP/1.1\r\nHost: test.local\r\n\r\n");
  }
  EXPECT_TRUE(Rig::wait_until([&] {
    const link::EdgeReport report = rig.report();
    return !report.services.empty() &&
           report.services[0].queued == static_cast<int>(kQueuedPerServiceMax);
  }));
  const Answer answer = rig.get("/hello");
  EXPECT_EQ(answer.status, 503);
  EXPECT_NE(answer.body.find("busy"), std::string::npos) << answer.body;
  Backend backend;
  rig.apply({rig.route({&backend})});
  for (Connection& client : clients) EXPECT_EQ(read_answer(client).body, "hello");
}

TEST_P(FailureTest, ForgetsARequestWhoseClientLeft) {
  Backend backend;
  Rig rig(GetParam());
  rig.apply({rig.route({&backend})});
  Connection client = rig.connect();
  client.write("GET /wait HTTP/1.1\r\nHost: test.local\r\n\r\n");
  EXPECT_TRUE(backend.wait_for_requests(1));
  client.reset();
  EXPECT_TRUE(Rig::wait_until(
      [&] { return rig.report().targets.empty() && rig.usage().connections == 0; }));
}

}  // namespace
}  // namespace hob::edge
