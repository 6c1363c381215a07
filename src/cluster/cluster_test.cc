#include "cluster/cluster.h"

#include <gtest/gtest.h>

#include <boost/asio/io_context.hpp>
#include <deque>
#include <map>
#include <set>

#include "cluster/keys.h"
#include "cluster/records.h"
#include "cluster/task_state.h"
#include "store/memory_store.h"

namespace hob::cluster {
namespace {

using namespace std::chrono_literals;

// Control's end of a link whose other end is the test.
class TestSession final : public link::Session {
 public:
  TestSession(const Executor& executor, uid_t uid) : up_(executor, 1000), uid_(uid) {}
  Result<void> send(link::Message message) override {
    if (up_.closed()) return fail(Code::kUnavailable, "closed");
    down_.push_back(std::move(message));
    return {};
  }
  Async<Result<void>> flush() override { co_return Result<void>(); }
  Async<Result<link::Message>> receive() override {
    std::optional<link::Message> message = co_await up_.pop();
    if (!message) co_return fail(Code::kUnavailable, "closed");
    co_return std::move(*message);
  }
  uid_t peer_uid() const override { return uid_; }
  void close() override { up_.close(); }

  void push(link::Message message) { (void)up_.try_push(std::move(message)); }
  std::optional<link::Message> pull() {
    if (down_.empty()) return std::nullopt;
    link::Message message = std::move(down_.front());
    down_.pop_front();
    return message;
  }

 private:
  Channel<link::Message> up_;
  std::deque<link::Message> down_;
  uid_t uid_;
};

// A host that runs whatever it is told at once, unless the test says otherwise.
struct TestHost {
  std::shared_ptr<TestSession> session{};
  std::map<TaskId, link::Assignment> tasks{};
  std::set<std::string> broken{};             // images whose tasks exit at once
  std::map<std::string, std::string> tags{};  // of another registry: what each means now

  void report(const link::Assignment& assignment) {
    link::TaskReport report{.task = assignment.task,
                            .status = link::TaskStatus::kRunning,
                            .health = link::Health::kHealthy};
    if (!assignment.containers.empty()) {
      const std::string& reference = assignment.containers[0].image.reference;
      const auto tag = tags.find(reference);
      report.image_digest = tag != tags.end() ? tag->second : reference;
    }
    const bool breaks =
        !assignment.containers.empty() && broken.contains(assignment.containers[0].image.reference);
    if (assignment.desired == link::DesiredStatus::kStopped || breaks) {
      report = {.task = assignment.task, .status = link::TaskStatus::kStopped};
      if (breaks) {
        report.stop_code = link::StopCode::kEssentialContainerExited;
        report.reason = "Essential container in task exited";
        report.exit_code = 3;
        report.last_lines = {"no database"};
      }
    }
    session->push(encode(report));
  }
  bool step() {
    const auto message = session->pull();
    if (!message) return false;
    std::vector<link::Assignment> put;
    if (message->type == "HostWelcome") {
      link::HostWelcome welcome;
      EXPECT_TRUE(decode(*message, welcome));
      tasks.clear();
      put = welcome.assignments;
    } else if (message->type == "AssignmentChange") {
      link::AssignmentChange change;
      EXPECT_TRUE(decode(*message, change));
      put = change.put;
      for (const TaskId& task : change.remove) tasks.erase(task);
    }
    for (const link::Assignment& assignment : put) {
      tasks[assignment.task] = assignment;
      report(assignment);
    }
    return true;
  }
};

// An edge that applies each table at once.
struct TestEdge {
  std::shared_ptr<TestSession> session{};
  link::RouteTable table{};
  link::CertificateTable certificates{};
  bool lagging = false;

  bool step() {
    if (lagging) return false;
    const auto message = session->pull();
    if (!message) return false;
    if (message->type == "CertificateTable") {
      link::CertificateTable part;
      EXPECT_TRUE(decode(*message, part));
      EXPECT_LT(message->body.size(), link::kFrameBytesMax / 2);
      if (!certificates.more) certificates.certificates.clear();
      certificates.version = part.version;
      certificates.more = part.more;
      std::ranges::move(part.certificates, std::back_inserter(certificates.certificates));
    } else {
      EXPECT_TRUE(decode(*message, table));
    }
    session->push(encode(link::EdgeReport{.applied_version = table.version,
                                          .certificates_version = certificates.version}));
    return true;
  }
};

// The real time, or a later one: only what time alone makes true is looked at then.
class TestClock final : public Clock {
 public:
  Instant now() const override { return real_.now() + ahead; }
  Duration ahead{0};

 private:
  SystemClock real_;
};

class ClusterTest : public testing::Test {
 protected:
  ClusterTest()
      : store_(store::make_memory_store(loop_.get_executor())), scope_(loop_.get_executor()) {
    restart();
  }
  ~ClusterTest() override { stop(); }

  void restart() {
    cluster_ = std::make_unique<Cluster>(
        *store_, loop_.get_executor(), clock_, random_,
        ClusterPorts{.credentials =
                         [this](const std::string& account, link::ImageSource source) {
                           ++tokens_;
                           source.username = "AWS";
                           source.password = account + "-token";
                           return source;
                         },
                     .store_logs = [this](link::LogBatch batch) -> Async<Result<void>> {
                       logs_.push_back(batch);
                       co_return Result<void>{};
                     }});
    cluster_->start();
  }
  void stop() {
    scope_.spawn("stop", [this]() -> Async<> { co_await cluster_->stop(); });
    loop_.restart();
    loop_.run();
    cluster_.reset();
  }
  std::shared_ptr<TestSession> link(link::Message hello, uid_t uid = 0) {
    auto session = std::make_shared<TestSession>(loop_.get_executor(), uid);
    session->push(std::move(hello));
    scope_.spawn("serve", cluster_->serve(session));
    return session;
  }
  TestHost host(std::string id) {
    return {.session = link(encode(link::HostHello{
                .host = HostId{id}, .zone = "us-east-1a", .cpu = 8192, .memory_mib = 16384}))};
  }
  TestEdge edge(std::string id) {
    return {.session = link(encode(link::EdgeHello{.edge = EdgeId{id}}))};
  }
  void poll() {
    loop_.restart();
    while (loop_.poll() > 0) {
    }
  }
  // Until nobody has anything to say.
  void settle(std::vector<TestHost*> hosts, std::vector<TestEdge*> edges) {
    for (bool busy = true; busy;) {
      poll();
      busy = false;
      for (TestHost* host : hosts) busy = host->step() || busy;
      for (TestEdge* edge : edges) busy = edge->step() || busy;
    }
  }
  void write(const Service& service) {
    scope_.spawn("write", [this, service]() -> Async<> {
      EXPECT_TRUE(co_await store_->commit(
          {.put = {{service_key("1", "apprunner", "s"), encode(service)}}}));
    });
    poll();
  }
  std::optional<Service> service() {
    std::optional<Service> found;
    scope_.spawn("read", [this, &found]() -> Async<> {
      const auto entry = co_await store_->get(service_key("1", "apprunner", "s"));
      if (*entry) found = *decode_service((*entry)->value);
    });
    poll();
    return found;
  }
  std::vector<std::string> host_records() {
    std::vector<std::string> found;
    scope_.spawn("read", [this, &found]() -> Async<> {
      const auto listing = co_await store_->list(std::string(kHostsPrefix));
      for (const auto& entry : listing->entries)
        found.push_back(decode_host(entry.value)->id.value);
    });
    poll();
    return found;
  }
  std::vector<Task> tasks() {
    std::vector<Task> found;
    scope_.spawn("read", [this, &found]() -> Async<> {
      const auto listing = co_await store_->list(std::string(kTasksPrefix));
      for (const auto& entry : listing->entries) found.push_back(*decode_task(entry.value));
    });
    poll();
    return found;
  }
  static Deployment deployment(std::string id, std::string image) {
    Deployment made{.id = DeploymentId{std::move(id)}};
    made.task.containers = {{.name = "app", .image = {.reference = std::move(image)}}};
    return made;
  }
  static Service wanted(int count, std::vector<Deployment> deployments) {
    return {.account = "1",
            .name = "s",
            .desired_count = count,
            .deployments = std::move(deployments),
            .routing = {.host_names = {"s.localhost"}}};
  }
  static size_t ready_targets(const TestEdge& edge) {
    size_t count = 0;
    for (const auto& route : edge.table.routes) {
      for (const auto& target : route.targets)
        count += target.state == link::TargetState::kReady ? 1 : 0;
    }
    return count;
  }

  boost::asio::io_context loop_;
  TestClock clock_;
  SystemRandom random_;
  std::unique_ptr<store::Store> store_;
  AsyncScope scope_;
  std::unique_ptr<Cluster> cluster_;
  int tokens_ = 0;
  std::vector<link::LogBatch> logs_;
};

TEST_F(ClusterTest, AServiceRunsAndIsRouted) {
  TestHost h = host("h1");
  TestEdge e = edge("e1");
  write(wanted(2, {deployment("d1", "v1")}));
  settle({&h}, {&e});
  EXPECT_EQ(service()->deployments[0].rollout, RolloutState::kCompleted);
  ASSERT_EQ(h.tasks.size(), 2u);
  const link::Assignment& assignment = h.tasks.begin()->second;
  EXPECT_EQ(assignment.containers.at(0).image.password, "1-token");
  EXPECT_EQ(assignment.address.substr(0, 9), "198.18.0.");
  EXPECT_EQ(ready_targets(e), 2u);
  EXPECT_EQ(e.table.routes.at(0).host_names.at(0), "s.localhost");
  for (const Task& task : tasks())
    EXPECT_EQ(encode(task).find("token"), std::string::npos) << "no secret is stored";
}

TEST_F(ClusterTest, ANewVersionReplacesTheOld) {
  TestHost h = host("h1");
  TestEdge e = edge("e1");
  write(wanted(1, {deployment("d1", "v1")}));
  settle({&h}, {&e});
  const TaskId old = h.tasks.begin()->first;
  Service next = *service();
  next.deployments.insert(next.deployments.begin(), deployment("d2", "v2"));
  e.lagging = true;
  write(next);
  settle({&h}, {&e});
  EXPECT_TRUE(h.tasks.contains(old)) << "an edge still knows the old one only";
  EXPECT_EQ(service()->deployments[0].rollout, RolloutState::kInProgress);
  e.lagging = false;
  settle({&h}, {&e});
  EXPECT_FALSE(h.tasks.contains(old));
  EXPECT_EQ(service()->deployments.size(), 1u);
  EXPECT_EQ(service()->deployments[0].id.value, "d2");
  EXPECT_EQ(ready_targets(e), 1u);
}

TEST_F(ClusterTest, ABadVersionFailsAndTheOldOneServes) {
  TestHost h = host("h1");
  h.broken = {"v2"};
  TestEdge e = edge("e1");
  write(wanted(1, {deployment("d1", "v1")}));
  settle({&h}, {&e});
  const TaskId old = h.tasks.begin()->first;
  Service next = *service();
  next.deployments.insert(next.deployments.begin(), deployment("d2", "v2"));
  write(next);
  settle({&h}, {&e});
  const Service after = *service();
  EXPECT_EQ(after.deployments[0].rollout, RolloutState::kFailed);
  EXPECT_EQ(after.deployments[0].reason, "Essential container in task exited (exit code 3)");
  EXPECT_EQ(after.deployments[0].last_lines, std::vector<std::string>{"no database"});
  EXPECT_EQ(after.deployments[1].rollout, RolloutState::kCompleted);
  ASSERT_EQ(h.tasks.size(), 1u);
  EXPECT_TRUE(h.tasks.contains(old));
  EXPECT_EQ(ready_targets(e), 1u);
}

TEST_F(ClusterTest, ATagThatMovesMovesNoTask) {
  TestHost h = host("h1");
  h.tags = {{"v1", "sha256:one"}};
  TestEdge e = edge("e1");
  write(wanted(1, {deployment("d1", "v1")}));
  settle({&h}, {&e});
  EXPECT_EQ(service()->deployments[0].image_digest, "sha256:one");
  h.tags = {{"v1", "sha256:two"}};
  Service more = *service();
  more.desired_count = 3;
  write(more);
  settle({&h}, {&e});
  ASSERT_EQ(ready_targets(e), 3u);
  for (const Task& task : tasks()) EXPECT_EQ(task.image_digest, "sha256:one");
  Service next = *service();
  next.deployments.insert(next.deployments.begin(), deployment("d2", "v1"));
  write(next);
  settle({&h}, {&e});
  ASSERT_EQ(ready_targets(e), 3u);
  for (const auto& [id, assignment] : h.tasks) {
    for (const Task& task : tasks()) {
      if (task.id == id) EXPECT_EQ(task.image_digest, "sha256:two");
    }
  }
}

TEST_F(ClusterTest, AHostThatIsGoneForGoodIsForgotten) {
  TestHost gone = host("h1");
  TestEdge e = edge("e1");
  write(wanted(1, {deployment("d1", "v1")}));
  settle({&gone}, {&e});
  TestHost h = host("h2");
  settle({&gone, &h}, {&e});
  EXPECT_EQ(host_records(), (std::vector<std::string>{"h1", "h2"}));
  gone.session->close();
  settle({&h}, {&e});
  // Later, at the next change of whatever: its task is replaced, and its record goes after the
  // task's.
  const auto look_after = [&](Duration later) {
    clock_.ahead += later;
    Service same = *service();
    same.routing.max_concurrency += 1;
    write(same);
    settle({&h}, {&e});
  };
  look_after(1h);
  EXPECT_EQ(ready_targets(e), 1u);
  EXPECT_EQ(h.tasks.size(), 1u);
  EXPECT_EQ(host_records().size(), 2u) << "it may come back";
  look_after(24h);
  EXPECT_EQ(host_records(), std::vector<std::string>{"h2"});
  for (const Task& task : tasks()) EXPECT_EQ(task.host.value == "h2", is_present(task));
  EXPECT_EQ(ready_targets(e), 1u);
}

TEST_F(ClusterTest, DeletingEndsItsTasks) {
  TestHost h = host("h1");
  TestEdge e = edge("e1");
  write(wanted(2, {deployment("d1", "v1")}));
  settle({&h}, {&e});
  Service going = *service();
  going.status = ServiceStatus::kDraining;
  write(going);
  settle({&h}, {&e});
  EXPECT_FALSE(service());
  EXPECT_TRUE(tasks().empty());
  EXPECT_TRUE(h.tasks.empty());
  EXPECT_TRUE(e.table.routes.empty());
}

TEST_F(ClusterTest, ARestartOfControlDisturbsNothing) {
  TestHost h = host("h1");
  TestEdge e = edge("e1");
  write(wanted(2, {deployment("d1", "v1")}));
  settle({&h}, {&e});
  const auto before = h.tasks;
  const auto routes = e.table.routes;
  const int64_t version = e.table.version;
  stop();
  restart();
  h.session = host("h1").session;
  e.session = edge("e1").session;
  settle({&h}, {&e});
  EXPECT_EQ(h.tasks, before);
  EXPECT_EQ(e.table.routes, routes);
  EXPECT_GE(e.table.version, version);
}

TEST_F(ClusterTest, TheFirstTableOfAnEmptyStoreIsFollowedByOthers) {
  TestEdge e = edge("e1");
  settle({}, {&e});
  EXPECT_GT(e.table.version, 0);
  TestHost h = host("h1");
  write(wanted(1, {deployment("d1", "v1")}));
  settle({&h}, {&e});
  EXPECT_EQ(ready_targets(e), 1u);
}

TEST_F(ClusterTest, EdgesAreToldCertificatesAndQuestionsAndSayThatTheyHaveThem) {
  const Certificate mine{.id = "c1", .account = "1", .certificate = "PEM", .key = "KEY"};
  const Challenge question{.host_name = "new.test", .token = "t", .key_authorization = "t.k"};
  const link::AcmeChallenge asked{"new.test", "t", "t.k"};
  scope_.spawn("write", [&]() -> Async<> {
    Certificate others = mine;
    others.account = "2";
    EXPECT_TRUE(co_await store_->commit({.put = {{certificate_key("1", "c1"), encode(mine)},
                                                 {certificate_key("2", "c1"), encode(others)},
                                                 {challenge_key("new.test"), encode(question)}}}));
  });
  Service service = wanted(0, {deployment("d1", "v1")});
  service.routing.certificates = {{"shop.test", "c1"}, {"*.shop.test", "c1"}, {"a.test", "gone"}};
  write(service);
  TestEdge e = edge("e1");
  poll();
  EXPECT_FALSE(cluster_->edges_show("1", "c1", "shop.test")) << "it has not said so yet";
  EXPECT_FALSE(cluster_->edges_answer(asked));
  settle({}, {&e});
  ASSERT_EQ(e.certificates.certificates.size(), 1u) << "another account's is not shown";
  EXPECT_EQ(e.certificates.certificates[0].host_names,
            (std::vector<std::string>{"*.shop.test", "shop.test"}));
  EXPECT_EQ(e.table.challenges, std::vector{asked});
  EXPECT_TRUE(cluster_->edges_show("1", "c1", "shop.test"));
  EXPECT_FALSE(cluster_->edges_show("1", "c1", "a.test"));
  EXPECT_FALSE(cluster_->edges_show("2", "c1", "shop.test")) << "another account's";
  EXPECT_TRUE(cluster_->edges_answer(asked));
  EXPECT_FALSE(cluster_->edges_answer({"new.test", "t", "other"}));
  service.status = ServiceStatus::kDraining;
  write(service);
  settle({}, {&e});
  EXPECT_TRUE(e.certificates.certificates.empty());
}

TEST_F(ClusterTest, CertificatesGoInAsManyMessagesAsTheirBytesNeed) {
  Service service = wanted(0, {deployment("d1", "v1")});
  scope_.spawn("write", [&]() -> Async<> {
    store::Transaction transaction;
    for (int i = 0; i < 100; ++i) {
      const std::string id = fmt::format("c{}", i);
      transaction.put[certificate_key("1", id)] =
          encode(Certificate{.id = id, .account = "1", .certificate = std::string(100'000, '\n')});
    }
    EXPECT_TRUE(co_await store_->commit(std::move(transaction)));
  });
  for (int i = 0; i < 100; ++i)
    service.routing.certificates[fmt::format("a{}.test", i)] = fmt::format("c{}", i);
  write(service);
  TestEdge e = edge("e1");
  settle({}, {&e});
  EXPECT_EQ(e.certificates.certificates.size(), 100u);
  EXPECT_FALSE(e.certificates.more);
  EXPECT_TRUE(cluster_->edges_show("1", "c99", "a99.test"));
}

TEST_F(ClusterTest, ATaskThatIsNotKnownIsForgottenByItsHost) {
  TestHost h = host("h1");
  h.tasks[TaskId{"stray"}] = {};
  settle({&h}, {});
  h.tasks[TaskId{"stray"}] = {};
  h.session->push(
      encode(link::TaskReport{.task = TaskId{"stray"}, .status = link::TaskStatus::kRunning}));
  settle({&h}, {});
  EXPECT_FALSE(h.tasks.contains(TaskId{"stray"}));
}

TEST_F(ClusterTest, AHostCannotSpeakForAnother) {
  TestHost h1 = host("h1");
  TestEdge e = edge("e1");
  write(wanted(1, {deployment("d1", "v1")}));
  settle({&h1}, {&e});
  TestHost h2 = host("h2");
  h2.session->push(encode(
      link::TaskReport{.task = h1.tasks.begin()->first, .status = link::TaskStatus::kStopped}));
  settle({&h1, &h2}, {&e});
  EXPECT_EQ(tasks().at(0).status, TaskStatus::kRunning);
}

TEST_F(ClusterTest, AnEdgeCannotPassForAHost) {
  const link::HostHello hello{.host = HostId{"h1"}, .zone = "us-east-1a"};
  auto session = link(encode(hello), 1000);
  poll();
  EXPECT_FALSE(session->pull()) << "it is told nothing";
  EXPECT_FALSE(session->send({}));
}

TEST_F(ClusterTest, ALinkThatSpeaksNonsenseIsEnded) {
  for (const link::Message& hello :
       {link::Message{"HostHello", "{"}, link::Message{"HostHello", "{}"},
        link::Message{"Hello", "{}"}, link::Message{"EdgeReport", "{}"}}) {
    auto session = link(hello);
    poll();
    EXPECT_FALSE(session->send({})) << hello.type << hello.body;
  }
  TestHost h = host("h1");
  settle({&h}, {});
  h.session->push({"TaskReport", R"({"status":"SLEEPING"})"});
  poll();
  EXPECT_FALSE(h.session->send({}));
}

TEST_F(ClusterTest, LogsAreStoredThenAcknowledged) {
  TestHost h = host("h1");
  settle({&h}, {});
  h.session->push(encode(link::LogBatch{
      .account = "1", .group = "g", .stream = "s", .position = 42, .lines = {{.text = "hello"}}}));
  poll();
  ASSERT_EQ(logs_.size(), 1u);
  const auto message = h.session->pull();
  ASSERT_TRUE(message);
  link::LogAck ack;
  ASSERT_TRUE(decode(*message, ack));
  EXPECT_EQ(ack.position, 42);
}

TEST_F(ClusterTest, ARecordThatCannotBeReadIsLeftAlone) {
  TestHost h = host("h1");
  TestEdge e = edge("e1");
  write(wanted(1, {deployment("d1", "v1")}));
  settle({&h}, {&e});
  scope_.spawn("damage", [this]() -> Async<> {
    EXPECT_TRUE(co_await store_->commit(
        {.put = {{service_key("1", "apprunner", "s"), R"({"status":"WHAT"})"}}}));
  });
  settle({&h}, {&e});
  EXPECT_EQ(h.tasks.size(), 1u);
  EXPECT_EQ(h.tasks.begin()->second.desired, link::DesiredStatus::kRunning)
      << "not taken for deleted";
}

}  // namespace
}  // namespace hob::cluster
