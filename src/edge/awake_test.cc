// Targets that sleep: requests that are held for them, hosts that are gone, releases under load.
#include <sys/resource.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <random>
#include <set>

#include "base/ids.h"
#include "edge/test_rig.h"
#include "link/link.h"

namespace hob::edge {
namespace {

// A host's side of the link, in a thread of its own: it answers holds at once, or when told to.
class Host {
 public:
  explicit Host(const std::string& path) {
    auto fd = http::listen_unix(path, 0600);
    EXPECT_TRUE(fd.has_value());
    listener_ = std::make_unique<link::Listener>(
        context_.get_executor(), std::move(*fd), std::set<uid_t>{::getuid()},
        [this](std::shared_ptr<link::Session> session) -> Async<> {
          return serve(std::move(session));
        });
    listener_->start();
    thread_ = std::thread([this] { context_.run(); });
  }
  ~Host() {
    std::promise<void> done;
    AsyncScope scope(context_.get_executor());
    boost::asio::post(context_, [&] {
      scope.spawn("stop", [&]() -> Async<> {
        session_ = nullptr;
        co_await listener_->stop();
        done.set_value();
      });
    });
    done.get_future().wait();
    guard_.reset();
    thread_.join();
  }
  // Answers nothing until answer().
  void hold_back() { holding_back_ = true; }
  void answer() {
    boost::asio::post(context_, [this] {
      holding_back_ = false;
      if (session_ == nullptr || pending_.empty()) return;
      (void)session_->send(link::encode(link::TargetsAwake{.awake = std::exchange(pending_, {})}));
    });
  }
  void forget(const TaskId& task) {
    const std::lock_guard lock(mutex_);
    unknown_.insert(task);
  }
  void know(const TaskId& task) {
    const std::lock_guard lock(mutex_);
    unknown_.erase(task);
  }
  std::set<TaskId> held() {
    const std::lock_guard lock(mutex_);
    return held_;
  }
  // What was released since it was held last, or at first.
  std::set<TaskId> may_sleep() {
    const std::lock_guard lock(mutex_);
    return may_sleep_;
  }
  bool holds(const Backend& backend) {
    return held().contains(TaskId{std::to_string(backend.port())});
  }
  std::atomic<int> holds_heard = 0;
  std::atomic<int> releases_heard = 0;  // of what was held
  std::atomic<int> sessions = 0;

 private:
  Async<> serve(std::shared_ptr<link::Session> session) {
    session_ = session;
    bool whole = true;
    for (;;) {
      auto message = co_await session->receive();
      if (!message) break;
      link::TargetHold change;
      if (message->type != "TargetHold" || !link::decode(*message, change)) continue;
      link::TargetsAwake answer;
      {
        const std::lock_guard lock(mutex_);
        if (whole) held_.clear();
        for (const TaskId& task : change.release) {
          releases_heard += static_cast<int>(held_.erase(task));
          may_sleep_.insert(task);
        }
        for (const TaskId& task : change.hold) {
          if (unknown_.contains(task)) {
            answer.unknown.push_back(task);
          } else {
            held_.insert(task);
            may_sleep_.erase(task);
            (holding_back_ ? pending_ : answer.awake).push_back(task);
          }
        }
      }
      if (whole) ++sessions;
      whole = false;
      holds_heard += static_cast<int>(change.hold.size());
      if (!answer.awake.empty() || !answer.unknown.empty())
        (void)session->send(link::encode(answer));
    }
    session_ = nullptr;
  }
  boost::asio::io_context context_{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> guard_{
      boost::asio::make_work_guard(context_)};
  std::unique_ptr<link::Listener> listener_;
  std::thread thread_;
  std::shared_ptr<link::Session> session_;  // of the host's thread, as is pending_
  std::vector<TaskId> pending_;
  std::atomic<bool> holding_back_ = false;
  std::mutex mutex_;
  std::set<TaskId> held_;
  std::set<TaskId> may_sleep_;
  std::set<TaskId> unknown_;
};

class AwakeTest : public ::testing::TestWithParam<Io> {
 protected:
  AwakeTest() {
    SystemRandom random;
    directory_ =
        std::filesystem::temp_directory_path() / ("hob-edge-test-" + random_hex(random, 16));
    std::filesystem::create_directories(directory_);
    socket = directory_ + "/host";
  }
  ~AwakeTest() override { std::filesystem::remove_all(directory_); }
  std::unique_ptr<Rig> rig(size_t loops = 1, Times times = {}) {
    return std::make_unique<Rig>(GetParam(), loops, times, "", "", "", socket);
  }
  std::string socket;

 private:
  std::string directory_;
};
INSTANTIATE_TEST_SUITE_P(Io, AwakeTest, ::testing::ValuesIn(available_io()), io_test_name);

link::Route sleeping(link::Route route, int awake_min, Duration sleep_after = Duration(600'000)) {
  route.awake_min = awake_min;
  route.sleep_after = sleep_after;
  route.queue_timeout = Duration(60'000);
  return route;
}

link::ServiceLoad load_of(Rig& rig) {
  const link::EdgeReport report = rig.report();
  return report.services.empty() ? link::ServiceLoad{} : report.services[0];
}

constexpr std::string_view kHello = "GET /hello HTTP/1.1\r\nHost: test.local\r\n\r\n";
constexpr std::string_view kWait = "GET /wait HTTP/1.1\r\nHost: test.local\r\n\r\n";

TEST_P(AwakeTest, HoldsARequestUntilItsTargetIsAwake) {
  Backend backend;
  Host host(socket);
  host.hold_back();
  auto rig = this->rig();
  rig->apply({sleeping(rig->route({&backend}), 0)});
  Connection client = rig->connect();
  client.write(kHello);
  EXPECT_TRUE(Rig::wait_until([&] { return host.holds(backend); }));
  EXPECT_EQ(load_of(*rig).queued, 1);
  EXPECT_FALSE(load_of(*rig).short_of_targets);
  EXPECT_EQ(backend.connections(), 0);
  host.answer();
  EXPECT_EQ(read_answer(client).body, "hello");
  // And now it is there at once.
  EXPECT_EQ(rig->get("/hello").body, "hello");
  EXPECT_EQ(host.holds_heard, 1);
  EXPECT_TRUE(Rig::wait_until([&] {
    const std::string text = rig->metrics.render();
    return text.find("hob_edge_targets_awake{service=\"s1\"} 1") != std::string::npos &&
           text.find("hob_edge_wakes_total{service=\"s1\"} 1") != std::string::npos;
  })) << rig->metrics.render();
}

TEST_P(AwakeTest, KeepsTheMinimumAwakeAndHoldsAllOfAServiceThatDoesNotSleep) {
  Backend first, second;
  Host host(socket);
  auto rig = this->rig();
  rig->apply({sleeping(rig->route({&first, &second}), 1)});
  EXPECT_TRUE(Rig::wait_until([&] { return host.held().size() == 1; }));
  EXPECT_EQ(rig->get("/hello").body, "hello");
  rig->apply({sleeping(rig->route({&first, &second}), -1)});
  EXPECT_TRUE(Rig::wait_until([&] { return host.held().size() == 2; }));
  EXPECT_EQ(host.releases_heard, 0);
}

// A way back in an instant: the version that slept gets the requests, and they are held for it.
TEST_P(AwakeTest, WakesTheVersionThatGetsTheWeight) {
  Backend before, after;
  Host host(socket);
  auto rig = this->rig();
  link::Route route = sleeping(rig->route({&before, &after}), 0);
  route.targets[0].version = "old";
  route.targets[1].version = "new";
  route.versions = {{.id = "old", .weight = 0, .host_names = {"old.local"}, .awake_min = 0},
                    {.id = "new", .weight = 100, .host_names = {}, .awake_min = 1}};
  rig->apply({route});
  EXPECT_TRUE(Rig::wait_until([&] { return host.holds(after); }));
  EXPECT_EQ(rig->get("/who").body, std::to_string(after.port()));
  EXPECT_FALSE(host.holds(before));
  host.hold_back();
  Connection busy = rig->connect();
  busy.write(kWait);
  EXPECT_TRUE(after.wait_for_requests(2));
  // The load that the other carries is enough: nobody has asked for this one yet.
  std::swap(route.versions[0].weight, route.versions[1].weight);
  rig->apply({route});
  EXPECT_TRUE(Rig::wait_until([&] { return host.holds(before); }));
  Connection held = rig->connect();
  held.write("GET /who HTTP/1.1\r\nHost: test.local\r\n\r\n");
  EXPECT_TRUE(Rig::wait_until([&] { return load_of(*rig).queued == 1; }));
  host.answer();
  EXPECT_EQ(read_answer(held).body, std::to_string(before.port()));
  after.gate.open();
  EXPECT_EQ(read_answer(busy).body, "waited");
}

TEST_P(AwakeTest, WakesTheTargetThatAClientReturnsTo) {
  Backend first, second;
  Host host(socket);
  auto rig = this->rig(1, {.failover = 60'000});
  link::Route route = sleeping(rig->route({&first, &second}), -1);
  route.sticky = Duration(3'600'000);
  rig->apply({route});
  // A cookie for each.
  std::map<std::string, std::string> cookies;
  while (cookies.size() < 2) {
    const Answer answer = rig->get("/who");
    const size_t at = answer.head.find("HOBSTICKY=");
    ASSERT_NE(at, std::string::npos);
    cookies[answer.body] = answer.head.substr(at, answer.head.find(';', at) - at);
  }
  rig->apply({sleeping(route, 1, Duration(20))});
  EXPECT_TRUE(Rig::wait_until([&] { return host.held().size() == 1; }));
  const Backend& asleep = host.holds(first) ? second : first;
  const std::string name = std::to_string(asleep.port());
  EXPECT_EQ(rig->get("/who", "Cookie: " + cookies[name] + "\r\n").body, name);
  // It is let go again.
  EXPECT_TRUE(Rig::wait_until([&] { return host.held().size() == 1; }));
}

// A host lets sleep only what an edge released.
TEST_P(AwakeTest, ReleasesWhatNobodyEverVisits) {
  Backend first, second, later;
  Host host(socket);
  auto rig = this->rig();
  // Of the first table: it may sleep already, and is left as it is.
  rig->apply({sleeping(rig->route({&first, &second}), 1)});
  EXPECT_TRUE(Rig::wait_until([&] { return host.may_sleep().size() == 1; }));
  EXPECT_EQ(host.held().size(), 1u);
  // It has just started: held, and let go when it was not needed for so long.
  rig->apply({sleeping(rig->route({&first, &second, &later}), 1)});
  EXPECT_TRUE(Rig::wait_until([&] { return host.held().size() == 2; }));
  rig->apply({sleeping(rig->route({&first, &second, &later}), 1, Duration(20))});
  EXPECT_TRUE(Rig::wait_until([&] { return host.may_sleep().size() == 2; }));
  EXPECT_EQ(host.held().size(), 1u);
}

TEST_P(AwakeTest, TellsAHostThatIsBackWhatMaySleep) {
  Backend backend;
  auto host = std::make_unique<Host>(socket);
  auto rig = this->rig();
  rig->apply({sleeping(rig->route({&backend}), 0)});
  EXPECT_TRUE(Rig::wait_until([&] { return host->may_sleep().size() == 1; }));
  host.reset();
  ::unlink(socket.c_str());
  host = std::make_unique<Host>(socket);
  EXPECT_TRUE(Rig::wait_until([&] { return host->may_sleep().size() == 1; }));
}

TEST_P(AwakeTest, WakesAsManyAsAThousandRequestsNeed) {
  std::vector<std::unique_ptr<Backend>> backends;
  std::vector<const Backend*> targets;
  for (int i = 0; i < 14; ++i) {
    backends.push_back(std::make_unique<Backend>());
    targets.push_back(backends.back().get());
  }
  Host host(socket);
  host.hold_back();
  auto rig = this->rig(2);
  link::Route route = sleeping(rig->route(targets), 0);
  route.max_concurrency = 100;
  rig->apply({route});
  // Four ends of each.
  rlimit files{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &files), 0);
  files.rlim_cur = std::min<rlim_t>(files.rlim_max, 8'192);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &files), 0);
  std::vector<Connection> clients;
  for (int i = 0; i < 1'000; ++i) {
    clients.push_back(rig->connect());
    clients.back().write(kWait);
  }
  // A thousand and the next one, in hundreds.
  EXPECT_TRUE(Rig::wait_until([&] { return host.held().size() == 11; })) << host.held().size();
  EXPECT_TRUE(Rig::wait_until([&] { return load_of(*rig).in_flight == 1'000; }));
  host.answer();
  const auto served = [&] {
    size_t sum = 0;
    for (const auto& backend : backends) sum += backend->requests().size();
    return sum;
  };
  EXPECT_TRUE(Rig::wait_until([&] { return served() == 1'000; }));
  for (auto& backend : backends) {
    EXPECT_LE(backend->requests().size(), 100u);
    backend->gate.open();
  }
  for (Connection& client : clients) EXPECT_EQ(read_answer(client).body, "waited");
  EXPECT_EQ(host.holds_heard, 11);
}

TEST_P(AwakeTest, PutsToSleepWhatIsNotNeeded) {
  Backend first, second;
  Host host(socket);
  auto rig = this->rig();
  link::Route route = sleeping(rig->route({&first, &second}), 1, Duration(100));
  route.max_concurrency = 2;
  rig->apply({route});
  std::vector<Connection> clients;
  for (int i = 0; i < 4; ++i) {
    clients.push_back(rig->connect());
    clients.back().write(kWait);
  }
  EXPECT_TRUE(first.wait_for_requests(2));
  EXPECT_TRUE(second.wait_for_requests(2));
  first.gate.open();
  second.gate.open();
  for (Connection& client : clients) EXPECT_EQ(read_answer(client).body, "waited");
  // One goes to sleep, and no connection to it is kept.
  EXPECT_TRUE(Rig::wait_until([&] { return host.held().size() == 1; }));
  EXPECT_EQ(host.releases_heard, 1);
  EXPECT_TRUE(Rig::wait_until([&] { return rig->usage().upstream_connections <= 2; }));
  EXPECT_EQ(rig->get("/hello").body, "hello");
  // The last one too, when it may.
  route.awake_min = 0;
  rig->apply({route});
  EXPECT_TRUE(Rig::wait_until([&] { return host.held().empty(); }));
  EXPECT_TRUE(Rig::wait_until([&] { return rig->usage().upstream_connections == 0; }));
  EXPECT_EQ(rig->get("/hello").body, "hello");
}

TEST_P(AwakeTest, ServesFromAwakeTargetsWhileTheHostIsGoneAndHoldsAllAnewAfter) {
  Backend first, second;
  auto rig = this->rig();
  link::Route route = sleeping(rig->route({&first, &second}), 1);
  route.max_concurrency = 1;
  // Nobody is there to wake it: the request waits.
  rig->apply({route});
  Connection early = rig->connect();
  early.write(kHello);
  EXPECT_TRUE(Rig::wait_until([&] { return load_of(*rig).queued == 1; }));
  auto host = std::make_unique<Host>(socket);
  EXPECT_EQ(read_answer(early).body, "hello");
  // Held beside the least by the root of one.
  EXPECT_TRUE(Rig::wait_until([&] { return host->held().size() >= 1; }));
  host = nullptr;
  EXPECT_EQ(rig->get("/hello").body, "hello");
  std::filesystem::remove(socket);
  host = std::make_unique<Host>(socket);
  EXPECT_TRUE(Rig::wait_until([&] { return host->held().size() >= 1; }));
  EXPECT_EQ(host->releases_heard, 0);
  EXPECT_EQ(rig->get("/hello").body, "hello");
}

TEST_P(AwakeTest, DoesNotUseWhatItsHostDoesNotKnowAndAsksAgain) {
  Backend backend;
  const TaskId task{std::to_string(backend.port())};
  Host host(socket);
  host.forget(task);
  auto rig = this->rig();
  rig->apply({sleeping(rig->route({&backend}), 0)});
  Connection client = rig->connect();
  client.write(kHello);
  EXPECT_TRUE(Rig::wait_until([&] { return load_of(*rig).short_of_targets; }));
  EXPECT_EQ(backend.connections(), 0);
  host.know(task);
  EXPECT_EQ(read_answer(client).body, "hello");
  EXPECT_FALSE(load_of(*rig).short_of_targets);
}

TEST_P(AwakeTest, GivesUpWaitingInTimeAndSaysWhenToTryAgain) {
  Backend backend;
  auto rig = this->rig();  // and no host
  link::Route route = sleeping(rig->route({&backend}), 0);
  route.queue_timeout = Duration(50);
  rig->apply({route});
  Answer answer = rig->get("/hello");
  EXPECT_EQ(answer.status, 503);
  EXPECT_TRUE(answer.has("Retry-After: ")) << answer.head;
  route.queue_timeout = Duration(60'000);
  route.request_timeout = Duration(50);
  rig->apply({route});
  answer = rig->get("/hello");
  EXPECT_EQ(answer.status, 503);
  EXPECT_EQ(backend.connections(), 0);
}

TEST_P(AwakeTest, WakesAnotherInThePlaceOfOneThatFails) {
  Backend first, second;
  Host host(socket);
  // As long as the test has patience: waking may take its time on a busy machine.
  auto rig = this->rig(1, Times{.failover = 20'000});
  rig->apply({sleeping(rig->route({&first, &second}), 1)});
  EXPECT_TRUE(Rig::wait_until([&] { return host.held().size() == 1; }));
  EXPECT_EQ(rig->get("/hello").body, "hello");
  Backend& awake = host.holds(first) ? first : second;
  Backend& reserve = host.holds(first) ? second : first;
  awake.stop();
  EXPECT_EQ(rig->get("/who").body, std::to_string(reserve.port()));
  EXPECT_TRUE(host.holds(reserve));
}

TEST_P(AwakeTest, TellsControlAtOnceThatTargetsAreShort) {
  Backend backend;
  Host host(socket);
  auto rig = this->rig();
  // Scale from zero: there is not a single target.
  rig->apply({sleeping(rig->route({}), 0)});
  Connection client = rig->connect();
  client.write(kWait);
  EXPECT_TRUE(Rig::wait_until([&] { return load_of(*rig).short_of_targets; }));
  link::Route route = sleeping(rig->route({&backend}), 0);
  route.max_concurrency = 1;
  rig->apply({route});
  EXPECT_TRUE(backend.wait_for_requests(1));
  EXPECT_TRUE(Rig::wait_until([&] { return !load_of(*rig).short_of_targets; }));
  Connection second = rig->connect();
  second.write(kHello);
  EXPECT_TRUE(Rig::wait_until([&] { return load_of(*rig).short_of_targets; }));
  backend.gate.open();
  EXPECT_EQ(read_answer(client).body, "waited");
  EXPECT_EQ(read_answer(second).body, "hello");
  EXPECT_TRUE(Rig::wait_until([&] { return !load_of(*rig).short_of_targets; }));
}

TEST_P(AwakeTest, IntegratesWhatIsInFlight) {
  Backend backend;
  auto rig = this->rig();
  rig->apply({rig->route({&backend})});
  Connection client = rig->connect();
  const auto begin = std::chrono::steady_clock::now();
  client.write(kWait);
  EXPECT_TRUE(backend.wait_for_requests(1));
  const int64_t first = load_of(*rig).in_flight_us;
  EXPECT_TRUE(Rig::wait_until([&] { return load_of(*rig).in_flight_us > first + 20'000; }));
  EXPECT_EQ(load_of(*rig).service_us, 0);
  backend.gate.open();
  EXPECT_EQ(read_answer(client).body, "waited");
  link::ServiceLoad load;
  EXPECT_TRUE(Rig::wait_until([&] {
    load = load_of(*rig);
    return load.requests_total == 1;
  }));
  const auto took = std::chrono::duration_cast<std::chrono::microseconds>(
      std::chrono::steady_clock::now() - begin);
  EXPECT_GT(load.service_us, 20'000);
  EXPECT_LE(load.service_us, took.count());
  EXPECT_LE(load.in_flight_us, took.count());
}

// No assertion on times; the figures are in the test's XML (--gtest_output=xml).
TEST_P(AwakeTest, AnswersEachRequestThatComesToASleepingService) {
  Backend backend;
  Host host(socket);
  auto rig = this->rig();
  Connection client = rig->connect();
  const auto median_us = [&](bool asleep) {
    std::vector<int64_t> times;
    rig->apply({sleeping(rig->route({&backend}), asleep ? 0 : 1, Duration(0))});
    for (int i = 0; i < 51; ++i) {
      EXPECT_TRUE(Rig::wait_until([&] { return host.held().empty() == asleep; }));
      const auto begin = std::chrono::steady_clock::now();
      client.write(kHello);
      EXPECT_EQ(read_answer(client).body, "hello");
      times.push_back(std::chrono::duration_cast<std::chrono::microseconds>(
                          std::chrono::steady_clock::now() - begin)
                          .count());
    }
    std::nth_element(times.begin(), times.begin() + 25, times.end());
    return std::to_string(times[25]);
  };
  RecordProperty("awake_median_us", median_us(false));
  RecordProperty("asleep_median_us", median_us(true));
}

// Targets are held and released at random, by loads that come and go and tables that change how
// many stay awake, while clients never stop: none of their requests fails.
TEST_P(AwakeTest, LosesNoRequestWhileTargetsSleepAndWake) {
  std::vector<std::unique_ptr<Backend>> backends;
  std::vector<const Backend*> targets;
  for (int i = 0; i < 4; ++i) {
    backends.push_back(std::make_unique<Backend>());
    targets.push_back(backends.back().get());
  }
  Host host(socket);
  auto rig = this->rig(2);
  std::atomic<bool> done = false;
  std::atomic<int> good = 0;
  std::atomic<int> bad = 0;
  link::Route route = sleeping(rig->route(targets), 0, Duration(0));
  route.max_concurrency = 2;
  rig->apply({route});
  std::vector<std::thread> clients;
  for (int i = 0; i < 6; ++i) {
    clients.emplace_back([&, i] {
      std::mt19937 random(static_cast<uint32_t>(i));
      while (!done) {
        Connection client = rig->connect();
        for (uint32_t k = random() % 20; k > 0; --k) {
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
  std::mt19937 random(7);
  for (int i = 0; i < 60; ++i) {
    route.awake_min = static_cast<int>(random() % 6) - 1;
    route.max_concurrency = 1 + static_cast<int>(random() % 3);
    rig->apply({route});
    const int seen = good;
    EXPECT_TRUE(Rig::wait_until([&] { return good > seen + 20; }));
  }
  // Not before something has really gone to sleep and woken.
  route.awake_min = 0;
  route.max_concurrency = 1;
  rig->apply({route});
  EXPECT_TRUE(Rig::wait_until([&] { return host.releases_heard > 3 && host.holds_heard > 3; }))
      << host.releases_heard << " " << host.holds_heard;
  done = true;
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(bad, 0);
  EXPECT_TRUE(Rig::wait_until([&] { return host.held().empty(); }));
}

}  // namespace
}  // namespace hob::edge
