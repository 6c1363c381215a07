// An edge that hands its listening sockets over to another one.
#include <poll.h>

#include <filesystem>

#include "base/ids.h"
#include "edge/control_test_rig.h"
#include "edge/test_rig.h"

namespace hob::edge {
namespace {

class HandOver : public ::testing::TestWithParam<Io> {};
INSTANTIATE_TEST_SUITE_P(Io, HandOver, ::testing::ValuesIn(available_io()), io_test_name);

constexpr std::string_view kHello = "GET /hello HTTP/1.1\r\nHost: test.local\r\n\r\n";

std::unique_ptr<Rig> successor(const Rig& of, Io io) {
  return std::make_unique<Rig>(io, 2, Times{}, "", "", "", "", of.listen_too());
}

TEST_P(HandOver, LosesNoRequestAndNoConnection) {
  Backend backend;
  auto rig = std::make_unique<Rig>(GetParam(), 2);
  rig->apply({rig->route({&backend})});
  const uint16_t port = rig->port();
  std::atomic<bool> done = false;
  std::atomic<int> good = 0;
  std::atomic<int> bad = 0;
  std::vector<std::thread> clients;
  for (int i = 0; i < 4; ++i) {
    clients.emplace_back([&, i] {
      std::unique_ptr<Connection> client;
      while (!done) {
        if (!client) client = std::make_unique<Connection>(Connection::to(port));
        client->write(kHello);
        const Answer answer = read_answer(*client);
        (answer.status == 200 && answer.whole ? good : bad)++;
        if (i % 2 == 0 || answer.status != 200 || answer.has("Connection: close\r\n"))
          client.reset();
      }
    });
  }
  for (int i = 0; i < 8; ++i) {
    const int goal = good + 50;
    EXPECT_TRUE(Rig::wait_until([&] { return good >= goal; }));
    auto next = successor(*rig, GetParam());
    next->apply({next->route({&backend})});
    rig->hand_over();
    rig = std::move(next);
  }
  done = true;
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(bad, 0);
}

TEST_P(HandOver, ClientsAreToldWithTheirNextAnswer) {
  Backend backend;
  Rig rig(GetParam());
  rig.apply({rig.route({&backend})});
  Connection fresh = rig.connect();
  Connection idle = rig.connect();
  idle.write(kHello);
  EXPECT_FALSE(read_answer(idle).has("Connection: close\r\n"));
  Connection busy = rig.connect();
  busy.write("GET /wait HTTP/1.1\r\nHost: test.local\r\n\r\n");
  EXPECT_TRUE(backend.wait_for_requests(2));
  EXPECT_TRUE(Rig::wait_until([&] { return rig.usage().connections == 3; }));
  auto next = successor(rig, GetParam());
  next->apply({next->route({&backend})});
  std::thread handing([&] { rig.hand_over(); });
  EXPECT_TRUE(Rig::wait_until([&] { return rig.report().leaving; }));
  // Who has no request under way is not cut off: it may be sending one just now.
  pollfd quiet{.fd = idle.fd(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(::poll(&quiet, 1, 50), 0);
  for (Connection* client : {&idle, &fresh}) {
    client->write(kHello);
    const Answer answer = read_answer(*client);
    EXPECT_EQ(answer.body, "hello");
    EXPECT_TRUE(answer.has("Connection: close\r\n")) << answer.head;
    client->close();
  }
  backend.gate.open();
  const Answer answer = read_answer(busy);
  EXPECT_EQ(answer.body, "waited");
  EXPECT_TRUE(answer.has("Connection: close\r\n")) << answer.head;
  busy.close();
  EXPECT_EQ(next->get("/hello").body, "hello");
  handing.join();
  EXPECT_EQ(rig.usage().connections, 0u);
}

TEST_P(HandOver, ATunnelIsHeldUntilItEnds) {
  Backend backend;
  Rig rig(GetParam());
  rig.apply({rig.route({&backend})});
  Connection tunnel = rig.connect();
  tunnel.write(
      "GET /upgrade HTTP/1.1\r\nHost: test.local\r\nConnection: upgrade\r\nUpgrade: "
      "echo\r\n\r\n");
  EXPECT_NE(tunnel.read_head().find(" 101 "), std::string::npos);
  auto next = successor(rig, GetParam());
  std::thread handing([&] { rig.hand_over(); });
  EXPECT_TRUE(Rig::wait_until([&] { return rig.report().leaving; }));
  tunnel.write("abc");
  EXPECT_EQ(tunnel.read_exactly(3), "abc");
  EXPECT_EQ(rig.usage().connections, 1u);
  tunnel.close();
  handing.join();
}

// Control waits for an edge that it takes to come back before it stops any task.
TEST_P(HandOver, ControlHearsThatItLeavesBeforeTheLinkEnds) {
  for (const bool cut_short : {false, true}) {
    SystemRandom random;
    const std::string socket =
        std::filesystem::temp_directory_path() / ("hob-edge-test-" + random_hex(random, 16));
    Backend backend;
    Control control(socket);
    const link::Target target{.task = TaskId{"t"}, .address = "127.0.0.1", .port = backend.port()};
    control.table = {
        .version = 1,
        .routes = {{.service = "s1", .host_names = {"test.local"}, .targets = {target}}}};
    Rig rig(GetParam(), 1, {}, socket);
    EXPECT_TRUE(Rig::wait_until([&] { return control.applied == 1; }));
    Connection busy = rig.connect();
    busy.write("GET /wait HTTP/1.1\r\nHost: test.local\r\n\r\n");
    EXPECT_TRUE(backend.wait_for_requests(1));
    if (cut_short) {
      rig.hand_over(Duration(50));
      EXPECT_FALSE(control.leaving);
    } else {
      std::thread handing([&] { rig.hand_over(); });
      EXPECT_TRUE(Rig::wait_until([&] { return rig.report().leaving; }));
      backend.gate.open();
      EXPECT_EQ(read_answer(busy).body, "waited");
      busy.close();
      handing.join();
    }
    rig.stop(Duration(0));
    EXPECT_TRUE(Rig::wait_until([&] { return control.ended.load(); }));
    EXPECT_TRUE(control.leaving) << cut_short;
    std::filesystem::remove(socket);
  }
}

// An edge that only stops serves whom it has accepted, too.
TEST_P(HandOver, AStoppingEdgeAnswersAFirstRequest) {
  Backend backend;
  Rig rig(GetParam());
  rig.apply({rig.route({&backend})});
  Connection fresh = rig.connect();
  Connection idle = rig.connect();
  idle.write(kHello);
  EXPECT_EQ(read_answer(idle).body, "hello");
  EXPECT_TRUE(Rig::wait_until([&] { return rig.usage().connections == 2; }));
  std::thread stopping([&] { rig.stop(Duration(20'000)); });
  EXPECT_EQ(idle.read_to_end(), "");  // closed at once
  fresh.write(kHello);
  const Answer answer = read_answer(fresh);
  EXPECT_EQ(answer.body, "hello");
  fresh.close();
  stopping.join();
}

}  // namespace
}  // namespace hob::edge
