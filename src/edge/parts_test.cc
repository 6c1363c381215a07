// The parts that need no sockets: buffers, timers, balancing, chunked bodies, heads rewritten.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "edge/balancer.h"
#include "edge/buffer.h"
#include "edge/chunked.h"
#include "edge/rewrite.h"
#include "edge/routes.h"
#include "edge/timer_wheel.h"

namespace hob::edge {
namespace {

std::string text_of(const Chain& chain) {
  std::string text;
  for (size_t i = 0; i < chain.pieces(); ++i) text += chain.piece(i).view();
  return text;
}

TEST(Buffers, ReturnWithTheirLastSlice) {
  BufferPool pool;
  {
    Chain chain;
    EXPECT_TRUE(chain.append(pool, std::string(40'000, 'a')));
    EXPECT_EQ(chain.pieces(), 3u);
    EXPECT_EQ(pool.in_use(), 3u);
    Chain copy;
    copy.share(chain);
    chain.clear();
    EXPECT_EQ(pool.in_use(), 3u);
    copy.consume(20'000);
    EXPECT_EQ(pool.in_use(), 2u);
    EXPECT_EQ(copy.bytes(), 20'000u);
    EXPECT_EQ(text_of(copy), std::string(20'000, 'a'));
  }
  EXPECT_EQ(pool.in_use(), 0u);
}

TEST(Buffers, AreSharedBySmallPieces) {
  BufferPool pool;
  Chain chain;
  for (int i = 0; i < 1'000; ++i) {
    Buffer* buffer = pool.take();
    buffer->data[0] = 'x';
    EXPECT_TRUE(chain.append(pool, Slice(buffer, buffer->data, 1)));
  }
  EXPECT_EQ(chain.bytes(), 1'000u);
  EXPECT_EQ(pool.in_use(), 1u);
}

TEST(Buffers, NeverWriteBehindWhatOthersHold) {
  BufferPool pool;
  Chain first;
  EXPECT_TRUE(first.append(pool, "head"));
  Chain second;
  second.share(first);
  EXPECT_TRUE(second.append(pool, "-two"));
  EXPECT_TRUE(first.append(pool, "-one"));
  EXPECT_EQ(text_of(first), "head-one");
  EXPECT_EQ(text_of(second), "head-two");
}

TEST(Buffers, EndAtTheirBound) {
  BufferPool pool;
  std::vector<Buffer*> taken;
  while (Buffer* buffer = pool.take()) taken.push_back(buffer);
  EXPECT_EQ(taken.size(), kBuffersMax);
  Chain chain;
  EXPECT_FALSE(chain.append(pool, "x"));
  for (Buffer* buffer : taken) pool.drop(buffer);
  EXPECT_TRUE(chain.append(pool, "x"));
}

TEST(TimerWheel, FiresWhenDueAndNotBefore) {
  struct Case {
    const char* name;
    uint64_t set;
    uint64_t moved;  // 0: not
    uint64_t fires;
  };
  for (const Case& c :
       {Case{"soon", 10, 0, 10}, Case{"in a slot's middle", 40, 0, 40},
        Case{"far", 100'000, 0, 100'000}, Case{"moved later", 100, 5'000, 5'000},
        Case{"moved earlier", 50'000, 70, 70}, Case{"never", 100, kNever, kNever}}) {
    constexpr uint64_t kStart = 1'000'003;
    TimerWheel wheel(kStart);
    Timer timer;
    wheel.set(timer, kStart + c.set, kStart);
    if (c.moved != 0) wheel.set(timer, c.moved == kNever ? kNever : kStart + c.moved, kStart);
    uint64_t fired = kNever;
    for (uint64_t now = kStart; now < kStart + 120'000 && fired == kNever;) {
      wheel.run(now, [&](Timer&) { fired = now - kStart; });
      const uint64_t wait = wheel.wait(now);
      now += wait == kNever ? 1'000 : std::max<uint64_t>(wait, 1);
    }
    if (c.fires == kNever) {
      EXPECT_EQ(fired, kNever) << c.name;
    } else {
      EXPECT_GE(fired, c.fires) << c.name;
      EXPECT_LE(fired, c.fires + TimerWheel::kSlotMs) << c.name;
    }
  }
}

TEST(Balancer, PicksTheLeastLoadedThatIsFit) {
  struct Case {
    const char* name;
    std::vector<TargetView> targets;
    int limit;
    int want;  // -1: none
    size_t near = 0;
  };
  const auto fresh = [](int in_flight, int slots) {
    return TargetView{.in_flight = in_flight, .slots = slots};
  };
  const TargetView ejected{.ejected = true};
  const TargetView tried{.excluded = true};
  for (const Case& c :
       {Case{"nobody", {}, 10, -1}, Case{"the only one", {{3}}, 10, 0},
        Case{"it is full", {{10}}, 10, -1}, Case{"the idle one", {{3}, {0}, {1}}, 10, 1},
        Case{"not the ejected one", {ejected, {7}}, 10, 1},
        Case{"not the one that failed", {{9}, tried}, 10, 0},
        Case{"full is not failed: the ejected one stays out", {ejected, {10}}, 10, -1},
        Case{"all ejected: fail open", {{5, true}, {2, true}}, 10, 1},
        Case{"of equals the one in the own zone", {{1}, {1}, {1}}, 10, 0, 1},
        Case{"but not a busier one", {{2}, {1}}, 10, 1, 1},
        Case{"the least in the own zone", {{2}, {1}, {1}, {1}}, 10, 1, 2},
        Case{"a new one has few places", {fresh(1, 1), {7}}, 10, 1},
        Case{"and is the first to be used within them", {fresh(1, 2), {7}}, 10, 0},
        Case{"it has them all when nobody else has one", {fresh(1, 1), {10}}, 10, 0},
        Case{"but no more than all", {fresh(10, 1), {10}}, 10, -1},
        Case{"all tried: again", {{1, false, true}, {0, false, true}}, 10, 1}}) {
    for (uint64_t random = 0; random < 20; ++random) {
      const auto picked = pick_target(c.targets.size(), c.near, c.limit, random,
                                      [&](size_t i) { return c.targets[i]; });
      EXPECT_EQ(picked ? static_cast<int>(*picked) : -1, c.want) << c.name;
    }
  }
}

TEST(Balancer, SpreadsOverManyByTwoChoices) {
  constexpr size_t kTargets = 100;
  std::vector<TargetView> targets(kTargets);
  uint64_t random = 1;
  for (int i = 0; i < 10'000; ++i) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    const auto picked = pick_target(kTargets, 0, 1'000, random ^ random >> 32,
                                    [&](size_t k) { return targets[k]; });
    ASSERT_TRUE(picked.has_value());
    ++targets[*picked].in_flight;
  }
  for (const TargetView& target : targets) {
    EXPECT_GE(target.in_flight, 90);
    EXPECT_LE(target.in_flight, 110);
  }
}

// However uneven the zones are, none of the few near ones is loaded above the others.
TEST(Balancer, PrefersItsZoneWithoutAHotSpot) {
  struct Case {
    size_t count, near;
    int most;  // of a near one, where the mean is 10
  };
  for (const Case& c : {Case{9, 1, 11}, Case{9, 3, 11}, Case{40, 1, 14}, Case{40, 10, 14},
                        Case{40, 39, 14}, Case{100, 2, 14}}) {
    std::vector<TargetView> targets(c.count);
    std::vector<size_t> running;
    uint64_t random = 7;
    const auto draw = [&] {
      random = random * 6364136223846793005u + 1442695040888963407u;
      return random ^ random >> 32;
    };
    int most = 0;
    for (int i = 0; i < 100'000; ++i) {
      const auto picked =
          pick_target(c.count, c.near, 1'000, draw(), [&](size_t k) { return targets[k]; });
      ASSERT_TRUE(picked.has_value());
      ++targets[*picked].in_flight;
      if (*picked < c.near) most = std::max(most, targets[*picked].in_flight);
      running.push_back(*picked);
      if (running.size() < 10 * c.count) continue;
      const size_t ends = draw() % running.size();
      --targets[running[ends]].in_flight;
      running[ends] = running.back();
      running.pop_back();
    }
    EXPECT_LE(most, c.most) << c.near << " of " << c.count;
  }
}

TEST(Balancer, KeepsToItsZoneWhileThatIsIdle) {
  for (const size_t count : {3u, 16u, 40u}) {
    for (uint64_t random = 0; random < 1'000; ++random) {
      const auto picked = pick_target(count, 2, 10, random * 0x9e3779b97f4a7c15u,
                                      [](size_t) { return TargetView{}; });
      EXPECT_LT(*picked, 2u) << count;
    }
  }
}

TEST(SlowStart, GivesPlacesOneByOne) {
  struct Case {
    uint64_t age;
    int limit, want;
  };
  for (const Case& c : {Case{0, 100, 1}, Case{10, 100, 1}, Case{11, 100, 2}, Case{500, 100, 50},
                        Case{999, 100, 99}, Case{1'000, 100, 100}, Case{0, 1, 1},
                        Case{999, kConcurrencyMax, 999'000}, Case{5'000, 7, 7}}) {
    EXPECT_EQ(slow_start_slots(c.age, c.limit), c.want) << c.age << " of " << c.limit;
  }
}

TEST(RetryBudget, IsAFifthOfTheRequestsAndAFewASecond) {
  const auto taken = [](RetryBudget& budget, uint64_t second) {
    int count = 0;
    while (budget.take(second)) ++count;
    return count;
  };
  const int least = kRetriesMin * kBudgetSeconds;
  RetryBudget budget;
  uint64_t now = 1'000'000;
  EXPECT_EQ(taken(budget, now), least);
  EXPECT_EQ(taken(budget, now), 0);
  for (int i = 0; i < 1'000; ++i) budget.request(now);
  EXPECT_EQ(taken(budget, now), 200);
  // The window's last second, and the one after.
  EXPECT_EQ(taken(budget, now + kBudgetSeconds - 1), 0);
  EXPECT_EQ(taken(budget, now + kBudgetSeconds), least);
  now += 100 * kBudgetSeconds + 3;
  for (int i = 0; i < 100; ++i) budget.request(now + i / 10);
  EXPECT_EQ(taken(budget, now + 9), least + 20);
}

TEST(Ejection, DoublesAndLeavesHalf) {
  Ejection target;
  uint64_t now = 1'000'000;
  for (uint64_t i = 1; i < kEjectAfter; ++i) EXPECT_FALSE(target.failed(now, 0, 2)) << i;
  EXPECT_TRUE(target.failed(now, 0, 2));
  for (const uint64_t want : {1'000u, 2'000u, 4'000u, 8'000u, 16'000u, 30'000u, 30'000u}) {
    EXPECT_TRUE(target.ejected(now + want - 1)) << want;
    EXPECT_FALSE(target.ejected(now + want)) << want;
    now += want;
    EXPECT_TRUE(target.failed(now, 0, 2));  // its first request fails again
  }
  target.succeeded();
  now += 60'000;
  EXPECT_FALSE(target.failed(now, 0, 2));
  Ejection other;
  for (int i = 0; i < 20; ++i)
    EXPECT_FALSE(other.failed(now, 1, 2));  // the other half is out already
  Ejection only;
  for (int i = 0; i < 20; ++i) EXPECT_FALSE(only.failed(now, 0, 1));
}

TEST(Trailers, NamesThatApplicationsConfuseAreOne) {
  for (const char* bad : {"Content-Length", "content_length", "X_Forwarded_For", "x-forwarded-for",
                          "TRANSFER_ENCODING", "if_match"})
    EXPECT_FALSE(trailer_allowed(bad)) << bad;
  for (const char* good : {"grpc-status", "x_own", "content-lengths"})
    EXPECT_TRUE(trailer_allowed(good)) << good;
}

std::string decode_in_pieces(std::string_view input, size_t piece, std::string& trailers) {
  ChunkedBody body;
  std::string out;
  size_t at = 0;
  while (at < input.size()) {
    std::string_view part = input.substr(at, piece);
    at += part.size();
    while (!part.empty()) {
      const ChunkedBody::Step step = body.next(part);
      if (step.outcome == ChunkedBody::Outcome::kBad) return "bad";
      if (step.outcome == ChunkedBody::Outcome::kData) {
        out += part.substr(step.skip, step.data);
        part.remove_prefix(step.skip + step.data);
        continue;
      }
      if (step.outcome == ChunkedBody::Outcome::kEnd) {
        trailers = body.trailers();
        return out + "|" + std::string(part.substr(step.skip)) + std::string(input.substr(at));
      }
      break;
    }
  }
  return "more";
}

TEST(ChunkedBody, ReadsAlikeHoweverItIsCut) {
  struct Case {
    const char* input;
    const char* want;
    const char* trailers;
  };
  for (const Case& c : {
           Case{"5\r\nhello\r\n0\r\n\r\nrest", "hello|rest", ""},
           Case{"3;a=b\r\nabc\r\nA;x\r\n0123456789\r\n000\r\nX-A: 1\r\nHost: x\r\nX-B: 2\r\n\r\n",
                "abc0123456789|", "X-A: 1\r\nX-B: 2\r\n"},
           Case{"5\r\nhello", "more", ""},
           Case{"5\r\nhello\n0\r\n\r\n", "bad", ""},
           Case{"5\rhello\r\n0\r\n\r\n", "bad", ""},
           Case{"-1\r\n", "bad", ""},
           Case{"8000000000000000\r\n", "bad", ""},
           Case{"0\r\nX-A 1\r\n\r\n", "bad", ""},
           Case{"0\r\nX-A : 1\r\n\r\n", "bad", ""},
           Case{"0\r\nX-A: 1\n\r\n", "bad", ""},
           Case{"0\r\n\rx", "bad", ""},
       }) {
    for (size_t piece = 1; piece <= 40; ++piece) {
      std::string trailers;
      EXPECT_EQ(decode_in_pieces(c.input, piece, trailers), c.want) << c.input << " by " << piece;
      EXPECT_EQ(trailers, c.trailers) << c.input;
    }
  }
}

TEST(Rewrite, PassesDropsAndAdds) {
  struct Case {
    const char* name;
    std::string head;
    std::string want;
    bool upgrade = false;
  };
  for (const Case& c : {
           Case{"as it is", "GET /a?b HTTP/1.1\r\nHost: h\r\nA: 1\r\n\r\n",
                "GET /a?b HTTP/1.1\r\nHost: h\r\nA: 1\r\n"},
           Case{"1.0", "GET / HTTP/1.0\r\nHost: h\r\n\r\n", "GET / HTTP/1.1\r\nHost: h\r\n"},
           Case{"absolute", "GET http://n:1/p?q HTTP/1.1\r\nHost: h\r\nA: 1\r\n\r\n",
                "GET /p?q HTTP/1.1\r\nHost: n:1\r\nA: 1\r\n"},
           Case{"absolute without a path", "GET http://n?q HTTP/1.1\r\nHost: h\r\n\r\n",
                "GET /?q HTTP/1.1\r\nHost: n\r\n"},
           Case{"hop by hop",
                "GET / HTTP/1.1\r\nHost: h\r\nConnection: B\r\nA: 1\r\nB: 2\r\nKeep-Alive: 5\r\nC: "
                "3\r\n\r\n",
                "GET / HTTP/1.1\r\nHost: h\r\nA: 1\r\nC: 3\r\n"},
           Case{"confusable",
                "GET / HTTP/1.1\r\nHost: h\r\nTransfer_Encoding: chunked\r\nContent_Length: "
                "9\r\nX_Forwarded_For: e\r\nA_B: 1\r\n\r\n",
                "GET / HTTP/1.1\r\nHost: h\r\nA_B: 1\r\n"},
           Case{"TE: trailers",
                "GET / HTTP/1.1\r\nHost: h\r\nTE: trailers, gzip\r\nConnection: TE\r\n\r\n",
                "GET / HTTP/1.1\r\nHost: h\r\nTE: trailers\r\nConnection: TE\r\n"},
           Case{"upgrade",
                "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
                "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n", true},
           Case{"a body's framing is written later",
                "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nA: 1\r\n\r\n",
                "PUT / HTTP/1.1\r\nHost: h\r\nA: 1\r\n"},
           Case{"no body at all keeps its zero",
                "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
                "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n"},
       }) {
    http::RequestHead head;
    ASSERT_EQ(http::parse(c.head, head), http::Parsed::kDone) << c.name;
    BufferPool pool;
    Chain out;
    EXPECT_TRUE(rewrite_request(head, c.head,
                                {.forwarded = "F\r\n", .new_trace = "1-2-3", .upgrade = c.upgrade},
                                pool, out));
    EXPECT_EQ(text_of(out), c.want + "F\r\nX-Amzn-Trace-Id: Root=1-2-3\r\n") << c.name;
  }
}

TEST(Rewrite, NormalisesHosts) {
  std::array<char, 8> room;
  EXPECT_EQ(normal_host("A.b:80", room), "a.b");
  EXPECT_EQ(normal_host("A.b.", room), "a.b");
  EXPECT_EQ(normal_host("[::1]:80", room), "[::1]");
  EXPECT_EQ(normal_host("muchtoolong", room), "");
}

}  // namespace
}  // namespace hob::edge
