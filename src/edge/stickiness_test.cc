// Clients that return to their target: by a cookie that only an edge can make.
#include "edge/stickiness.h"

#include <cstdio>
#include <filesystem>

#include "base/ids.h"
#include "edge/test_rig.h"

namespace hob::edge {
namespace {

TEST(Stickiness, FindsItsCookieAmongOthers) {
  const std::string version = token_of_version("s", "v1");
  const std::string target = token_of_target("s", TaskId{"t"});
  ASSERT_EQ(version.size(), kVersionTokenBytes);
  ASSERT_EQ(target.size(), kTargetTokenBytes);
  const std::string ours = "HOBSTICKY=" + version + target;
  struct Case {
    const char* name;
    std::string fields;
    bool found;
  };
  for (const Case& c : {
           Case{"none", "", false},
           Case{"alone", "Cookie: " + ours + "\r\n", true},
           Case{"among others", "Cookie: a=b; " + ours + "; c=d\r\n", true},
           Case{"in a second field", "Cookie: a=b\r\nX: y\r\ncookie: " + ours + "\r\n", true},
           Case{"after a malformed one of its name", "Cookie: HOBSTICKY=1; " + ours + "\r\n", true},
           Case{"too long", "Cookie: " + ours + "0\r\n", false},
           Case{"another name", "Cookie: X" + ours + "\r\n", false},
           Case{"another field", "X-Cookie: " + ours + "\r\n", false},
           Case{"empty", "Cookie: \r\nCookie: ;;;\r\n", false},
       }) {
    const std::string raw = "GET / HTTP/1.1\r\nHost: h\r\n" + c.fields + "\r\n";
    http::RequestHead head;
    ASSERT_EQ(http::parse(raw, head), http::Parsed::kDone) << c.name;
    const StickyTokens tokens = sticky_tokens(head);
    EXPECT_EQ(tokens.version, c.found ? version : "") << c.name;
    EXPECT_EQ(tokens.target, c.found ? target : "") << c.name;
  }
}

TEST(Stickiness, NamesEachTargetOfEachServiceApart) {
  EXPECT_NE(token_of_target("s", TaskId{"a"}), token_of_target("s", TaskId{"b"}));
  EXPECT_NE(token_of_target("s", TaskId{"a"}), token_of_target("t", TaskId{"a"}));
  EXPECT_NE(token_of_version("s", "a"), token_of_version("s", "b"));
  EXPECT_EQ(sticky_line({.version = "1", .target = "2"}, 60, true),
            "Set-Cookie: HOBSTICKY=12; Path=/; Max-Age=60; HttpOnly; SameSite=Lax; Secure\r\n");
}

class StickinessTest : public ::testing::TestWithParam<Io> {};
INSTANTIATE_TEST_SUITE_P(Io, StickinessTest, ::testing::ValuesIn(available_io()), io_test_name);

link::Route sticky(link::Route route) {
  route.sticky = Duration(3'600'000);
  route.queue_timeout = Duration(60'000);
  return route;
}

std::string cookie_of(const Answer& answer) {
  const size_t at = answer.head.find("HOBSTICKY=");
  if (at == std::string::npos) return {};
  return "Cookie: a=b; " + answer.head.substr(at, answer.head.find(';', at) - at) + "\r\n";
}

TEST_P(StickinessTest, ReturnsAClientToItsTarget) {
  Backend first, second, third;
  Rig rig(GetParam());
  rig.apply({sticky(rig.route({&first, &second, &third}))});
  const Answer answer = rig.get("/who");
  EXPECT_TRUE(answer.has("; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax\r\n")) << answer.head;
  EXPECT_FALSE(answer.has("127.0.0.1"));
  const std::string cookie = cookie_of(answer);
  for (int i = 0; i < 30; ++i) {
    const Answer again = rig.get("/who", cookie);
    EXPECT_EQ(again.body, answer.body);
    EXPECT_EQ(cookie_of(again), cookie);
  }
  // A tunnel, too.
  Connection client = rig.connect();
  client.write("GET /upgrade HTTP/1.1\r\nHost: test.local\r\n" + cookie +
               "Connection: upgrade\r\nUpgrade: echo\r\n\r\n");
  const Answer upgraded = read_answer(client);
  EXPECT_EQ(upgraded.status, 101);
  EXPECT_EQ(cookie_of(upgraded), cookie);
}

TEST_P(StickinessTest, SetsNoCookieUnlessTold) {
  Backend backend;
  Rig rig(GetParam());
  rig.apply({rig.route({&backend})});
  EXPECT_EQ(cookie_of(rig.get("/who")), "");
}

TEST_P(StickinessTest, ReplacesForgedAndStaleCookies) {
  Backend first, second;
  Rig rig(GetParam());
  rig.apply({sticky(rig.route({&first, &second}))});
  const std::string forged =
      "Cookie: HOBSTICKY=" + std::string(kVersionTokenBytes + kTargetTokenBytes, 'a') + "\r\n";
  const Answer answer = rig.get("/who", forged);
  EXPECT_EQ(answer.status, 200);
  EXPECT_NE(cookie_of(answer), "");
  const Backend& left = answer.body == std::to_string(first.port()) ? second : first;
  // Its target is gone.
  rig.apply({sticky(rig.route({&left}))});
  const Answer moved = rig.get("/who", cookie_of(answer));
  EXPECT_EQ(moved.body, std::to_string(left.port()));
  EXPECT_NE(cookie_of(moved), cookie_of(answer));
}

TEST_P(StickinessTest, MovesAClientWhoseTargetRefusesIt) {
  Backend second;
  auto first = std::make_unique<Backend>();
  Rig rig(GetParam());
  link::Route route = sticky(rig.route({first.get()}));
  rig.apply({route});
  const std::string cookie = cookie_of(rig.get("/who"));
  route.targets.push_back(rig.route({&second}).targets[0]);
  rig.apply({route});
  first.reset();
  const Answer moved = rig.get("/who", cookie);
  EXPECT_EQ(moved.body, std::to_string(second.port()));
  EXPECT_NE(cookie_of(moved), cookie);
}

TEST_P(StickinessTest, WaitsForABusyTargetAndLetsOthersPass) {
  Backend first, second;
  Rig rig(GetParam(), 1, {.failover = 60'000});
  link::Route route = sticky(rig.route({&first, &second}));
  route.max_concurrency = 1;
  rig.apply({route});
  const Answer answer = rig.get("/who");
  const std::string cookie = cookie_of(answer);
  Backend& own = answer.body == std::to_string(first.port()) ? first : second;
  Connection busy = rig.connect();
  busy.write("GET /wait HTTP/1.1\r\nHost: test.local\r\n" + cookie + "\r\n");
  EXPECT_TRUE(own.wait_for_requests(2));
  Connection waits = rig.connect();
  waits.write("GET /who HTTP/1.1\r\nHost: test.local\r\n" + cookie + "\r\n");
  EXPECT_TRUE(Rig::wait_until([&] {
    const link::EdgeReport report = rig.report();
    return !report.services.empty() && report.services[0].queued == 1;
  }));
  for (int i = 0; i < 5; ++i) EXPECT_NE(rig.get("/who").body, answer.body);
  own.gate.open();
  EXPECT_EQ(read_answer(waits).body, answer.body);
  EXPECT_EQ(read_answer(busy).body, "waited");
}

TEST_P(StickinessTest, GivesUpOnABusyTargetWhenAnotherCanServe) {
  Backend first, second;
  Rig rig(GetParam(), 1, {.failover = 50});
  link::Route route = sticky(rig.route({&first, &second}));
  route.max_concurrency = 1;
  rig.apply({route});
  const Answer answer = rig.get("/who");
  Backend& own = answer.body == std::to_string(first.port()) ? first : second;
  Connection busy = rig.connect();
  busy.write("GET /wait HTTP/1.1\r\nHost: test.local\r\n" + cookie_of(answer) + "\r\n");
  EXPECT_TRUE(own.wait_for_requests(2));
  const Answer moved = rig.get("/who", cookie_of(answer));
  EXPECT_EQ(moved.status, 200);
  EXPECT_NE(moved.body, answer.body);
  own.gate.open();
  EXPECT_EQ(read_answer(busy).body, "waited");
}

TEST_P(StickinessTest, KeepsAClientWithItsVersionWhileThatHasAShare) {
  Backend before, first, second;
  Rig rig(GetParam());
  link::Route route = sticky(rig.route({&before, &first, &second}));
  route.targets[0].version = "old";
  route.targets[1].version = route.targets[2].version = "new";
  route.versions = {{.id = "old", .weight = 0, .host_names = {}},
                    {.id = "new", .weight = 1, .host_names = {}}};
  rig.apply({route});
  const Answer answer = rig.get("/who");
  const std::string cookie = cookie_of(answer);
  // Its version has little, and its target is gone.
  route.versions[0].weight = 999'999;
  std::erase_if(route.targets, [&](const auto& of) { return of.task.value == answer.body; });
  rig.apply({route});
  const Answer moved = rig.get("/who", cookie);
  EXPECT_NE(moved.body, answer.body);
  EXPECT_NE(moved.body, std::to_string(before.port()));
  // Rolled back.
  route.versions[1].weight = 0;
  rig.apply({route});
  EXPECT_EQ(rig.get("/who", cookie_of(moved)).body, std::to_string(before.port()));
}

TEST_P(StickinessTest, MeansTheSameToAnotherEdge) {
  Backend first, second, third, fourth;
  Rig rig(GetParam(), 2), other(GetParam(), 2);
  const link::Route route = sticky(rig.route({&first, &second, &third, &fourth}));
  rig.apply({route});
  other.apply({route});
  const Answer answer = rig.get("/who");
  for (int i = 0; i < 10; ++i) EXPECT_EQ(other.get("/who", cookie_of(answer)).body, answer.body);
}

TEST_P(StickinessTest, WorksWithCurlsCookieJarByBothVersionsOfHttp) {
  Backend first, second, third, fourth;
  Rig rig(GetParam());
  rig.apply({sticky(rig.route({&first, &second, &third, &fourth}))});
  SystemRandom random;
  const std::string jar =
      std::filesystem::temp_directory_path() / ("hob-jar-" + random_hex(random, 16));
  const auto curl = [&](const char* version) {
    const std::string command =
        fmt::format("curl -s {} -b {} -c {} -H 'Host: test.local' http://127.0.0.1:{}/who", version,
                    jar, jar, rig.port());
    std::string out;
    FILE* pipe = ::popen(command.c_str(), "r");
    char room[64];
    while (const size_t got = ::fread(room, 1, sizeof room, pipe)) out.append(room, got);
    EXPECT_EQ(::pclose(pipe), 0);
    return out;
  };
  const std::string first_seen = curl("--http2-prior-knowledge");
  EXPECT_FALSE(first_seen.empty());
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(curl("--http1.1"), first_seen);
    EXPECT_EQ(curl("--http2-prior-knowledge"), first_seen);
  }
  std::filesystem::remove(jar);
}

}  // namespace
}  // namespace hob::edge
