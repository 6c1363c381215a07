// One edge, real targets and clients: what goes through, and how.
#include "edge/edge.h"

#include "edge/test_rig.h"

namespace hob::edge {
namespace {

class EdgeTest : public ::testing::TestWithParam<Io> {};
INSTANTIATE_TEST_SUITE_P(Io, EdgeTest, ::testing::ValuesIn(available_io()), io_test_name);

TEST_P(EdgeTest, CarriesARequestAndItsAnswer) {
  Backend backend;
  Rig rig(GetParam());
  rig.apply({rig.route({&backend})});
  const Answer answer =
      rig.get("/echo?a=b",
              "X-Mine: 1\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nTE: gzip\r\n"
              "Keep-Alive: 1\r\nX-Forwarded-For: 6.6.6.6\r\nX_Forwarded_Proto: https\r\n"
              "X-Amzn-Trace-Id: Root=1-5f84c7a5-0123456789abcdef01234567\r\n");
  EXPECT_EQ(answer.status, 200);
  EXPECT_TRUE(answer.has("Connection: close\r\n")) << answer.head;
  const std::string& seen = answer.body;
  EXPECT_TRUE(seen.starts_with("GET /echo?a=b HTTP/1.1\r\nHost: test.local\r\nX-Mine: 1\r\n"))
      << seen;
  EXPECT_NE(seen.find("X-Forwarded-For: 127.0.0.1\r\n"), std::string::npos) << seen;
  EXPECT_NE(seen.find("X-Forwarded-Proto: http\r\n"), std::string::npos) << seen;
  EXPECT_NE(seen.find(fmt::format("X-Forwarded-Port: {}\r\n", rig.port())), std::string::npos)
      << seen;
  EXPECT_NE(seen.find(";Root=1-5f84c7a5-0123456789abcdef01234567\r\n"), std::string::npos) << seen;
  for (const char* gone :
       {"X-Hop", "TE:", "Keep-Alive", "6.6.6.6", "X_Forwarded_Proto", "Connection"}) {
    EXPECT_EQ(seen.find(gone), std::string::npos) << gone << " in " << seen;
  }
}

TEST_P(EdgeTest, GivesEachStatusItsFraming) {
  Backend backend;
  Rig rig(GetParam());
  rig.apply({rig.route({&backend})});
  struct Case {
    const char* method;
    const char* path;
    int status;
    const char* body;
    const char* has;
    const char* has_not;
  };
  for (const Case& c : {
           Case{"GET", "/hello", 200, "hello", "Content-Length: 5\r\n", "Connection"},
           Case{"GET", "/chunked", 200, "hello world", "Transfer-Encoding: chunked\r\n",
                "Content-Length"},
           Case{"GET", "/close", 200, "until the end", "HTTP/1.1 200", "Connection"},
           Case{"GET", "/204", 204, "", "204 No Content", "Content-Length"},
           Case{"GET", "/304", 304, "", "ETag: \"a\"", "Transfer"},
           Case{"HEAD", "/head", 200, "", "Content-Length: 5\r\n", "Connection"},
           Case{"GET", "/hop", 200, "hop", "X-Keep: 1\r\n", "X-Hop"},
           Case{"GET", "/500", 500, "oops", "500 Oops", "Connection"},
           Case{"GET", "/both", 200, "hello", "Transfer-Encoding: chunked\r\n", "Content-Length"},
           Case{"GET", "/continue", 200, "hello", "Content-Length: 5\r\n", "Connection"},
           Case{"GET", "/extra", 200, "hello", "Content-Length: 5\r\n", "Connection"},
       }) {
    // Twice on one connection: what follows must not be disturbed.
    Connection client = rig.connect();
    for (int i = 0; i < 2; ++i) {
      client.write(fmt::format("{} {} HTTP/1.1\r\nHost: test.local\r\n\r\n", c.method, c.path));
      const Answer answer = read_answer(client, c.method);
      EXPECT_EQ(answer.status, c.status) << c.path;
      EXPECT_TRUE(answer.whole) << c.path;
      EXPECT_EQ(answer.body, c.body) << c.path;
      EXPECT_TRUE(answer.has(c.has)) << c.path << ": " << answer.head;
      EXPECT_FALSE(answer.has(c.has_not)) << c.path << ": " << answer.head;
    }
    EXPECT_TRUE(client.buffer().empty()) << c.path << ": " << client.buffer();
  }
}

TEST_P(EdgeTest, PassesTrailersOnThatMayPass) {
  Backend backend;
  Rig rig(GetParam());
  rig.apply({rig.route({&backend})});
  Connection client = rig.connect();
  client.write("GET /chunked HTTP/1.1\r\nHost: test.local\r\nConnection: close\r\n\r\n");
  const std::string all = client.read_to_end();
  EXPECT_TRUE(all.ends_with("0\r\nX-Sum: 11\r\n\r\n")) << all;
  EXPECT_NE(all.find("Trailer: X-Sum\r\n"), std::string::npos) << all;
}

TEST_P(EdgeTest, SpeaksHttpOneDotZero) {
  Backend backend;
  Rig rig(GetParam());
  rig.apply({rig.route({&backend})});
  {
    Connection client = rig.connect();
    client.write("GET /chunked HTTP/1.0\r\nHost: test.local\r\n\r\n");
    const std::string all = client.read_to_end();
    EXPECT_TRUE(all.starts_with("HTTP/1.1 200")) << all;
    EXPECT_EQ(all.find("Transfer-Encoding"), std::string::npos) << all;
    EXPECT_NE(all.find("Connection: close\r\n"), std::string::npos) << all;
    EXPECT_TRUE(all.ends_with("\r\n\r\nhello world")) << all;
  }
  Connection client = rig.connect();
  for (int i = 0; i < 2; ++i) {
    client.write("GET /hello HTTP/1.0\r\nHost: test.local\r\nConnection: keep-alive\r\n\r\n");
    const Answer answer = read_answer(client);
    EXPECT_EQ(answer.body, "hello");
    EXPECT_TRUE(answer.has("Connection: keep-alive\r\n")) << answer.head;
  }
}

TEST_P(EdgeTest, KeepsConnectionsAliveOnBothSides) {
  Backend backend;
  Rig rig(GetParam());
  rig.apply({rig.route({&backend})});
  Connection client = rig.connect();
  for (int i = 0; i < 100; ++i) {
    client.write("GET /hello HTTP/1.1\r\nHost: test.local:1234\r\n\r\n");
    ASSERT_EQ(read_answer(client).body, "hello");
  }
  EXPECT_EQ(backend.connections(), 1);
  EXPECT_EQ(rig.usage().upstream_reused, 99u);
}

TEST_P(EdgeTest, ServesPipelinedRequestsInOrder) {
  Backend backend;
  Rig rig(GetParam());
  rig.apply({rig.route({&backend})});
  Connection client = rig.connect();
  std::string all;
  for (int i = 0; i < 200; ++i) {
    all +=
        i % 3 == 0
            ? fmt::format(
                  "POST /echo?{} HTTP/1.1\r\nHost: test.local\r\nContent-Length: 3\r\n\r\nabc", i)
            : fmt::format("GET /echo?{} HTTP/1.1\r\nHost: test.local\r\n\r\n", i);
  }
  std::thread writer([&] { client.write(all); });
  for (int i = 0; i < 200; ++i) {
    const Answer answer = read_answer(client);
    ASSERT_EQ(answer.status, 200) << i;
    EXPECT_NE(answer.body.find(fmt::format(" /echo?{} ", i)), std::string::npos) << i;
  }
  writer.join();
}

TEST_P(EdgeTest, CarriesBodiesUp) {
  Backend backend;
  Rig rig(GetParam());
  rig.apply({rig.route({&backend})});
  for (const size_t bytes :
       {size_t{1}, size_t{2047}, size_t{2048}, size_t{16384}, size_t{65536}, size_t{3'000'000}}) {
    Connection client = rig.connect();
    const std::string body(bytes, 'b');
    std::thread writer([&] {
      client.write(fmt::format(
          "POST /length HTTP/1.1\r\nHost: test.local\r\nContent-Length: {}\r\n\r\n", bytes));
      client.write(body);
    });
    EXPECT_EQ(read_answer(client).body, std::to_string(bytes));
    writer.join();
    // And chunked, in odd pieces.
    std::thread chunks([&] {
      client.write(
          "POST /length HTTP/1.1\r\nHost: test.local\r\nTransfer-Encoding: chunked\r\n\r\n");
      for (size_t at = 0; at < bytes;) {
        const size_t count = std::min<size_t>(bytes - at, 1 + at % 9973);
        client.write(
            fmt::format("{:x};x=y\r\n{}\r\n", count, std::string_view(body).substr(at, count)));
        at += count;
      }
      client.write("0\r\nX-Trailer: 1\r\n\r\n");
    });
    EXPECT_EQ(read_answer(client).body, std::to_string(bytes));
    chunks.join();
  }
  for (const std::string& request : backend.requests())
    EXPECT_FALSE(request.starts_with("BAD")) << request;
}

TEST_P(EdgeTest, HoldsLittleForAClientThatReadsSlowly) {
  Backend backend;
  Rig rig(GetParam());
  rig.apply({rig.route({&backend})});
  constexpr size_t kBytes = 20'000'000;
  Connection client = rig.connect();
  client.write(fmt::format("GET /big?{} HTTP/1.1\r\nHost: test.local\r\n\r\n", kBytes));
  const std::string head = client.read_head();
  EXPECT_TRUE(head.starts_with("HTTP/1.1 200"));
  // The client reads nothing until the edge's queue has stopped growing: it is full, and the target
  // waits.
  uint64_t last = 0;
  int same = 0;
  Rig::wait_until([&] {
    const uint64_t now = rig.usage().queued_peak_bytes;
    same = now == last && now > 0 ? same + 1 : 0;
    last = now;
    return same > 2'000;
  });
  const std::string body = client.read_exactly(kBytes);
  EXPECT_EQ(body.size(), kBytes);
  // The bound, and the piece that reached it with its chunk framing.
  EXPECT_LE(rig.usage().queued_peak_bytes, kQueuedBytesHigh + kBufferBytes);
  EXPECT_GE(rig.usage().queued_peak_bytes, kQueuedBytesHigh);
}

TEST_P(EdgeTest, LetsAClientWaitWhoseBodyIsNotRead) {
  Gate gate;
  Backend backend([&](Connection& connection, Backend&) {
    const std::string head = connection.read_head();
    gate.wait();
    const std::string body = connection.read_exactly(8'000'000);
    connection.write(answer_with(std::to_string(body.size())));
  });
  Rig rig(GetParam());
  rig.apply({rig.route({&backend})});
  Connection client = rig.connect();
  std::atomic<bool> written = false;
  std::thread writer([&] {
    client.write("PUT /x HTTP/1.1\r\nHost: test.local\r\nContent-Length: 8000000\r\n\r\n");
    client.write(std::string(8'000'000, 'u'));
    written = true;
  });
  uint64_t last = 0;
  int same = 0;
  Rig::wait_until([&] {
    const uint64_t now = rig.usage().buffers;
    same = now == last ? same + 1 : 0;
    last = now;
    return same > 2'000;
  });
  EXPECT_LT(rig.usage().buffers * kBufferBytes, 3'000'000u);
  gate.open();
  EXPECT_EQ(read_answer(client).body, "8000000");
  writer.join();
}

TEST_P(EdgeTest, TunnelsAnUpgrade) {
  Backend backend;
  Rig rig(GetParam());
  rig.apply({rig.route({&backend})});
  Connection client = rig.connect();
  client.write(
      "GET /upgrade HTTP/1.1\r\nHost: test.local\r\nConnection: Upgrade\r\nUpgrade: "
      "echo\r\n\r\nfirst");
  const std::string head = client.read_head();
  EXPECT_TRUE(head.starts_with("HTTP/1.1 101")) << head;
  EXPECT_NE(head.find("Upgrade: echo\r\n"), std::string::npos) << head;
  EXPECT_EQ(client.read_exactly(5), "first");
  for (int i = 0; i < 50; ++i) {
    const std::string message = fmt::format("message {}", i);
    client.write(message);
    ASSERT_EQ(client.read_exactly(message.size()), message);
  }
  client.shut();
  EXPECT_EQ(client.read_to_end(), "bye");
  // Declined: an ordinary answer, and the connection goes on.
  Connection other = rig.connect();
  for (int i = 0; i < 2; ++i) {
    other.write(
        "GET /hello HTTP/1.1\r\nHost: test.local\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n");
    EXPECT_EQ(read_answer(other).body, "hello");
    EXPECT_EQ(backend.requests().back().find("h2c"), std::string::npos);
  }
}

TEST_P(EdgeTest, AnswersAClientThatHalfClosed) {
  Backend backend;
  Rig rig(GetParam());
  rig.apply({rig.route({&backend})});
  Connection client = rig.connect();
  client.write("GET /hello HTTP/1.1\r\nHost: test.local\r\n\r\n");
  client.shut();
  EXPECT_TRUE(client.read_to_end().ends_with("hello"));
}

TEST_P(EdgeTest, PassesAnEarlyAnswerOnAndCloses) {
  Backend backend;
  Rig rig(GetParam());
  rig.apply({rig.route({&backend})});
  Connection client = rig.connect();
  client.write("POST /early HTTP/1.1\r\nHost: test.local\r\nContent-Length: 1000000\r\n\r\npart");
  const Answer answer = read_answer(client);
  EXPECT_EQ(answer.body, "early");
  EXPECT_TRUE(answer.has("Connection: close\r\n")) << answer.head;
  EXPECT_EQ(client.read_to_end(), "");
}

TEST_P(EdgeTest, RunsOnSeveralLoops) {
  Backend backend;
  Rig rig(GetParam(), 3);
  rig.apply({rig.route({&backend})});
  std::vector<Connection> clients;
  for (int i = 0; i < 30; ++i) clients.push_back(rig.connect());
  for (int round = 0; round < 3; ++round) {
    for (Connection& client : clients)
      client.write("GET /hello HTTP/1.1\r\nHost: test.local\r\n\r\n");
    for (Connection& client : clients) ASSERT_EQ(read_answer(client).body, "hello");
  }
}

}  // namespace
}  // namespace hob::edge
