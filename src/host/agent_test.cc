#include "host/agent.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "base/http.h"
#include "base/testing_loop.h"
#include "host/hold_server.h"
#include "host/simulated_edge.h"
#include "host/simulated_machine.h"

namespace hob::host {
namespace {

using namespace std::chrono_literals;
using link::Health;
using link::StopCode;
using link::TaskStatus;
using testing::kPatience;
using testing::SimulatedEdge;
using testing::SimulatedMachine;
using testing::TestClock;

// Control's end of a real link: gives out assignments, keeps the last report of each task and all
// log lines.
class SimulatedControl {
 public:
  SimulatedControl(const Executor& executor, std::string socket)
      : executor_(executor), socket_(std::move(socket)), changed_(executor) {}

  void start() {
    Result<Fd> fd = http::listen_unix(socket_, 0600);
    ASSERT_TRUE(fd.has_value());
    listener_ = std::make_unique<link::Listener>(
        executor_, std::move(*fd), std::set<uid_t>{getuid()},
        [this](std::shared_ptr<link::Session> session) { return serve(std::move(session)); });
    listener_->start();
  }
  Async<> stop() {
    if (!listener_) co_return;
    co_await listener_->stop();
    listener_.reset();
    session_ = nullptr;
    ::unlink(socket_.c_str());
  }

  void put(link::Assignment assignment) {
    assignments[assignment.task] = assignment;
    if (session_) (void)session_->send(link::encode(link::AssignmentChange{.put = {assignment}}));
  }
  void stop_task(const TaskId& task) {
    link::Assignment assignment = assignments.at(task);
    assignment.desired = link::DesiredStatus::kStopped;
    put(assignment);
  }
  void remove(const TaskId& task) {
    assignments.erase(task);
    if (session_) (void)session_->send(link::encode(link::AssignmentChange{.remove = {task}}));
  }
  void acknowledge_all() {
    acknowledge = true;
    for (const link::LogAck& ack : held_) (void)session_->send(link::encode(ack));
    held_.clear();
  }

  // Waits until `holds()`; a failure of the test if it never does.
  template <class F>
  Async<bool> until(const char* what, F holds) {
    const auto give_up = std::chrono::steady_clock::now() + kPatience;
    while (!holds()) {
      if (std::chrono::steady_clock::now() > give_up) {
        ADD_FAILURE() << "never: " << what;
        co_return false;
      }
      changed_.reset();
      co_await changed_.wait_for(10ms);
    }
    co_return true;
  }
  Async<bool> until_status(TaskId task, TaskStatus status) {
    return until("the status", [this, task, status] {
      return reports[task].status == status && reports[task].task == task;
    });
  }
  Async<bool> until_health(TaskId task, Health health) {
    return until("the health", [this, task, health] {
      return reports[task].health == health && reports[task].task == task;
    });
  }

  std::map<TaskId, link::Assignment> assignments{};
  std::map<TaskId, link::TaskReport> reports{};
  std::map<TaskId, std::vector<TaskStatus>> statuses{};  // as they were reported
  std::vector<Health> first_healths{};                   // of each link's first report
  std::map<std::string, std::vector<std::string>> lines{};
  std::map<std::string, int64_t> positions{};
  bool acknowledge = true;
  link::HostHello hello{};
  int links = 0;

 private:
  Async<> serve(std::shared_ptr<link::Session> session) {
    const Result<link::Message> first = co_await session->receive();
    if (!first || !link::decode(*first, hello)) co_return;
    ++links;
    link::HostWelcome welcome;
    for (const auto& [task, assignment] : assignments) welcome.assignments.push_back(assignment);
    (void)session->send(link::encode(welcome));
    session_ = session;
    bool seen_report = false;
    for (;;) {
      const Result<link::Message> message = co_await session->receive();
      if (!message) break;
      link::TaskReport report;
      link::LogBatch batch;
      if (link::decode(*message, report)) {
        if (!seen_report) first_healths.push_back(report.health);
        seen_report = true;
        reports[report.task] = report;
        auto& list = statuses[report.task];
        if (list.empty() || list.back() != report.status) list.push_back(report.status);
      } else if (link::decode(*message, batch)) {
        store(*session, batch);
      }
      changed_.set();
    }
    if (session_ == session) session_ = nullptr;
    changed_.set();
  }

  void store(link::Session& session, const link::LogBatch& batch) {
    if (batch.position > positions[batch.stream]) {
      for (const link::LogLine& line : batch.lines) lines[batch.stream].push_back(line.text);
      positions[batch.stream] = batch.position;
    }
    const link::LogAck ack{
        .group = batch.group, .stream = batch.stream, .position = batch.position};
    if (acknowledge)
      (void)session.send(link::encode(ack));
    else
      held_.push_back(ack);
  }

  Executor executor_;
  std::string socket_;
  Event changed_;
  std::unique_ptr<link::Listener> listener_;
  std::shared_ptr<link::Session> session_;
  std::vector<link::LogAck> held_;
};

struct World {
  explicit World(const Executor& which)
      : executor(which),
        directory(make_directory()),
        machine(which, directory / "logs"),
        control(which, directory / "control.sock"),
        pool(2) {}
  ~World() { (void)remove_tree(directory); }
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  static std::filesystem::path make_directory() {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "hob-host-test-XXXXXX").string();
    EXPECT_NE(::mkdtemp(pattern.data()), nullptr);
    return pattern;
  }

  Async<> start_agent() {
    AgentOptions options{.directory = directory,
                         .control_socket = directory / "control.sock",
                         .host = HostId{"11112222333344445555666677778888"},
                         .zone = "us-east-1a",
                         .version = "1",
                         .edge_uids = {getuid()}};
    Result<Fd> holds = http::listen_unix(hold_socket(), 0600);
    EXPECT_TRUE(holds.has_value());
    if (holds) options.hold_socket = std::move(*holds);
    agent = std::make_unique<Agent>(executor, std::move(options),
                                    TaskPorts{machine, machine, machine, machine, clock, pool},
                                    random, metrics);
    const Result<void> started = co_await agent->start();
    EXPECT_TRUE(started.has_value()) << (started ? "" : started.error().message);
  }
  Async<> stop_agent(Agent::Tasks tasks = Agent::Tasks::kLeave) {
    if (agent) co_await agent->stop(tasks);
    agent.reset();
    ::unlink(hold_socket().c_str());
  }
  std::string hold_socket() const { return directory / "holds.sock"; }
  SimulatedEdge edge(const char* name = "eeee") { return {executor, hold_socket(), EdgeId{name}}; }
  // The task runs, is healthy, and has been awake for long enough to sleep.
  Async<> run_for_long(link::Assignment assignment) {
    const TaskId task = assignment.task;
    control.put(std::move(assignment));
    co_await control.until_health(task, Health::kHealthy);
    clock.pass(std::max(kAwakeAfterStart, kHoldsKept));
  }
  Async<bool> until_asleep(TaskId task, bool asleep = true) {
    return control.until(asleep ? "it sleeps" : "it is awake", [this, task, asleep] {
      return machine.is_frozen(task.value) == asleep && control.reports[task].asleep == asleep;
    });
  }

  Executor executor;
  std::filesystem::path directory;
  TestClock clock;
  SystemRandom random;
  Metrics metrics;
  SimulatedMachine machine;
  SimulatedControl control;
  BlockingPool pool;
  std::unique_ptr<Agent> agent;
};

// `body` has a world whose control and agent run.
template <class F>
void in_world(F body) {
  hob::testing::run_loop([&](Executor executor) -> Async<> {
    World world(executor);
    world.control.start();
    co_await world.start_agent();
    co_await body(world);
    co_await world.stop_agent();
    co_await world.control.stop();
  });
}

const TaskId kTask{"aaaabbbbccccddddeeeeffff00001111"};

link::Assignment assignment(const std::string& image, TaskId task = kTask) {
  link::Assignment made{.task = task, .account = "000000000001", .service = "svc"};
  made.containers = {{.name = "app",
                      .image = {.registry = "127.0.0.1:1", .repository = image, .reference = "1"},
                      .log_group = "group",
                      .log_stream = "instance/" + task.value}};
  made.address = task.value;  // the simulated machine's probes go by it
  made.probe = link::Probe{.port = 8080, .interval = 20ms, .timeout = 1s, .unhealthy_threshold = 5};
  return made;
}

TEST(Agent, RunsATaskAndReportsItHealthy) {
  in_world([](World& w) -> Async<> {
    w.control.put(assignment("web"));
    co_await w.control.until_health(kTask, Health::kHealthy);
    const link::TaskReport report = w.control.reports[kTask];
    EXPECT_EQ(report.status, TaskStatus::kRunning);
    EXPECT_EQ(report.image_digest, "sha256:of-web");
    EXPECT_TRUE(report.started_at && report.pull_started_at && report.pull_stopped_at);
    EXPECT_EQ(w.control.hello.zone, "us-east-1a");
    EXPECT_GT(w.control.hello.cpu, 0);
    EXPECT_GT(w.control.hello.memory_mib, 0);
    EXPECT_NE(w.metrics.render().find("hob_host_tasks 1\n"), std::string::npos);
  });
}

TEST(Agent, WithoutAProbeATaskIsHealthyWhenItRuns) {
  in_world([](World& w) -> Async<> {
    link::Assignment without = assignment("web");
    without.probe.reset();
    w.control.put(without);
    co_await w.control.until_health(kTask, Health::kHealthy);
  });
}

TEST(Agent, SaysWhyAnImageWasNotPulled) {
  in_world([](World& w) -> Async<> {
    w.machine.missing = {"nothing"};
    w.control.put(assignment("nothing"));
    co_await w.control.until_status(kTask, TaskStatus::kStopped);
    EXPECT_EQ(w.control.reports[kTask].stop_code, StopCode::kTaskFailedToStart);
    EXPECT_EQ(w.control.reports[kTask].reason, "CannotPullContainerError: nothing: not found");
    EXPECT_EQ(w.control.reports[kTask].permanent, true);
    EXPECT_EQ(w.machine.networks(), 0u);
  });
}

TEST(Agent, TriesAgainWhenTheRegistryCannotBeReached) {
  in_world([](World& w) -> Async<> {
    w.machine.pulls_unavailable = 2;
    w.control.put(assignment("web"));
    co_await w.control.until_health(kTask, Health::kHealthy);
  });
}

TEST(Agent, SaysWhyAContainerDidNotStart) {
  in_world([](World& w) -> Async<> {
    w.machine.without_start = {"broken"};
    w.control.put(assignment("broken"));
    co_await w.control.until_status(kTask, TaskStatus::kStopped);
    EXPECT_EQ(w.control.reports[kTask].stop_code, StopCode::kTaskFailedToStart);
    EXPECT_EQ(w.control.reports[kTask].reason, "CannotStartContainerError: exec: no such file");
    EXPECT_EQ(w.machine.networks(), 0u);
  });
}

TEST(Agent, ReportsATaskThatExitsAtOnce) {
  in_world([](World& w) -> Async<> {
    w.machine.exit_at_once = {"crash"};
    w.control.put(assignment("crash"));
    co_await w.control.until_status(kTask, TaskStatus::kStopped);
    const link::TaskReport report = w.control.reports[kTask];
    EXPECT_EQ(report.stop_code, StopCode::kEssentialContainerExited);
    EXPECT_EQ(report.reason, "Essential container in task exited");
    EXPECT_EQ(report.exit_code, 3);
    EXPECT_EQ(report.last_lines, std::vector<std::string>{"start 1"});
    EXPECT_EQ(w.machine.starts(kTask.value), 1);
    EXPECT_EQ(w.machine.containers(), 0u);
  });
}

TEST(Agent, ReportsOutOfMemory) {
  in_world([](World& w) -> Async<> {
    w.machine.silent = {"eater"};
    w.control.put(assignment("eater"));
    co_await w.control.until_status(kTask, TaskStatus::kRunning);
    w.machine.end(kTask.value, {.exit_code = 137, .out_of_memory = true});
    co_await w.control.until_status(kTask, TaskStatus::kStopped);
    EXPECT_EQ(w.control.reports[kTask].reason,
              "OutOfMemoryError: Container killed due to memory usage");
    EXPECT_EQ(w.control.reports[kTask].exit_code, 137);
  });
}

TEST(Agent, SaysWhatWasTriedWhenATaskNeverBecomesHealthy) {
  in_world([](World& w) -> Async<> {
    w.machine.silent = {"elsewhere"};
    w.control.put(assignment("elsewhere"));
    co_await w.control.until_health(kTask, Health::kUnhealthy);
    co_await w.control.until("the last lines",
                             [&] { return !w.control.reports[kTask].last_lines.empty(); });
    const link::TaskReport report = w.control.reports[kTask];
    EXPECT_EQ(report.status, TaskStatus::kRunning);
    EXPECT_EQ(report.reason,
              "Task failed container health checks: TCP connect to port 8080: Connection refused; "
              "nothing listens on "
              "port 8080; the container listens on port 3000");
    EXPECT_EQ(report.last_lines, std::vector<std::string>{"start 1"});
    EXPECT_EQ(report.permanent, true) << "it serves elsewhere";
  });
}

TEST(Agent, StopsATaskWithSigterm) {
  in_world([](World& w) -> Async<> {
    w.control.put(assignment("web"));
    co_await w.control.until_health(kTask, Health::kHealthy);
    w.control.stop_task(kTask);
    co_await w.control.until_status(kTask, TaskStatus::kStopped);
    EXPECT_EQ(w.machine.signals(), std::vector<int>{15});
    EXPECT_EQ(w.control.reports[kTask].stop_code, StopCode::kServiceSchedulerInitiated);
    EXPECT_EQ(w.control.reports[kTask].exit_code, 143);
    EXPECT_EQ(w.machine.containers(), 0u);
    EXPECT_EQ(w.machine.networks(), 0u);
    w.control.remove(kTask);
    co_await w.control.until("the log is gone", [&] { return !w.machine.has_log(kTask.value); });
    EXPECT_EQ(w.control.lines["instance/" + kTask.value], std::vector<std::string>{"start 1"});
  });
}

TEST(Agent, KillsATaskThatIgnoresSigterm) {
  in_world([](World& w) -> Async<> {
    w.machine.deaf = {"deaf"};
    link::Assignment deaf = assignment("deaf");
    deaf.stop_timeout = 30ms;
    w.control.put(deaf);
    co_await w.control.until_health(kTask, Health::kHealthy);
    w.control.stop_task(kTask);
    co_await w.control.until_status(kTask, TaskStatus::kStopped);
    EXPECT_EQ(w.machine.signals(), (std::vector<int>{15, 9}));
    EXPECT_EQ(w.control.reports[kTask].exit_code, 137);
  });
}

TEST(Agent, AbandonsAPullOfATaskThatIsNotWanted) {
  in_world([](World& w) -> Async<> {
    w.machine.pull_gate().reset();
    w.control.put(assignment("web"));
    co_await w.control.until_status(kTask, TaskStatus::kActivating);
    w.control.stop_task(kTask);
    co_await w.control.until_status(kTask, TaskStatus::kStopped);
    EXPECT_EQ(w.machine.starts(kTask.value), 0);
    EXPECT_EQ(w.machine.networks(), 0u);
  });
}

TEST(Agent, RefusesATaskOfTwoContainers) {
  in_world([](World& w) -> Async<> {
    link::Assignment two = assignment("web");
    two.containers.push_back(two.containers.front());
    w.control.put(two);
    co_await w.control.until_status(kTask, TaskStatus::kStopped);
    EXPECT_EQ(w.control.reports[kTask].stop_code, StopCode::kTaskFailedToStart);
    EXPECT_EQ(w.machine.starts(kTask.value), 0);
  });
}

TEST(Agent, RestartsWhatWasHealthyWithControlGone) {
  in_world([](World& w) -> Async<> {
    w.control.put(assignment("web"));
    co_await w.control.until_health(kTask, Health::kHealthy);
    co_await w.control.stop();
    w.machine.end(kTask.value, {.exit_code = 1});
    co_await w.control.until("a second start", [&] { return w.machine.starts(kTask.value) == 2; });
    w.control.start();
    co_await w.control.until("the restart is reported", [&] {
      return w.control.reports[kTask].restarts == 1 &&
             w.control.reports[kTask].health == Health::kHealthy;
    });
    EXPECT_EQ(w.control.reports[kTask].status, TaskStatus::kRunning);
    EXPECT_EQ(w.control.links, 2);
    EXPECT_EQ(w.control.reports[kTask].reason, "");
  });
}

TEST(Agent, EndsWhatMustNotBeRestarted) {
  in_world([](World& w) -> Async<> {
    link::Assignment once = assignment("web");
    once.restart = false;
    w.control.put(once);
    co_await w.control.until_health(kTask, Health::kHealthy);
    w.machine.end(kTask.value, {.exit_code = 0});
    co_await w.control.until_status(kTask, TaskStatus::kStopped);
    EXPECT_EQ(w.control.reports[kTask].stop_code, StopCode::kEssentialContainerExited);
    EXPECT_EQ(w.control.reports[kTask].exit_code, 0);
  });
}

TEST(Agent, AdoptsWhatRanOn) {
  in_world([](World& w) -> Async<> {
    w.control.put(assignment("web"));
    co_await w.control.until_health(kTask, Health::kHealthy);
    const std::optional<Instant> started_at = w.control.reports[kTask].started_at;
    co_await w.stop_agent();
    EXPECT_TRUE(w.machine.runs(kTask.value));
    co_await w.control.until("the link is lost", [&] { return w.control.links == 1; });
    co_await w.start_agent();
    co_await w.control.until("a new link", [&] { return w.control.first_healths.size() == 2; });
    // Never anything but healthy: a new agent takes no task out of the routes.
    EXPECT_EQ(w.control.first_healths.back(), Health::kHealthy);
    EXPECT_EQ(w.control.reports[kTask].started_at, started_at);
    EXPECT_EQ(w.machine.starts(kTask.value), 1);
  });
}

TEST(Agent, RestartsWhatEndedWhileItWasAway) {
  in_world([](World& w) -> Async<> {
    w.control.put(assignment("web"));
    co_await w.control.until_health(kTask, Health::kHealthy);
    co_await w.stop_agent();
    w.machine.end(kTask.value, {.exit_code = 1});
    co_await w.start_agent();
    co_await w.control.until("a second start", [&] { return w.machine.starts(kTask.value) == 2; });
    co_await w.control.until("healthy again",
                             [&] { return w.control.reports[kTask].restarts == 1; });
  });
}

TEST(Agent, StartsAgainWhatIsGoneWithoutATrace) {  // the machine was switched off
  in_world([](World& w) -> Async<> {
    w.control.put(assignment("web"));
    co_await w.control.until_health(kTask, Health::kHealthy);
    co_await w.stop_agent();
    (void)co_await w.machine.remove(kTask.value);
    (void)co_await w.machine.detach(kTask.value);
    co_await w.start_agent();
    co_await w.control.until("a second start", [&] { return w.machine.starts(kTask.value) == 2; });
  });
}

TEST(Agent, RemovesWhatIsNobodys) {
  hob::testing::run_loop([](Executor executor) -> Async<> {
    World w(executor);
    w.machine.plant("99998888777766665555444433332222");
    w.control.start();
    co_await w.start_agent();
    EXPECT_EQ(w.machine.containers(), 0u);
    EXPECT_EQ(w.machine.networks(), 0u);
    co_await w.stop_agent();
    co_await w.control.stop();
  });
}

TEST(Agent, StopsWhatControlNoLongerLists) {
  in_world([](World& w) -> Async<> {
    w.control.put(assignment("web"));
    co_await w.control.until_health(kTask, Health::kHealthy);
    co_await w.control.stop();
    w.control.assignments.clear();
    w.control.start();
    co_await w.control.until(
        "it is gone", [&] { return !w.machine.has(kTask.value) && w.machine.networks() == 0; });
    co_await w.control.until("its record is gone",
                             [&] { return std::filesystem::is_empty(w.directory / "tasks"); });
  });
}

TEST(Agent, EmptiesTheHost) {
  in_world([](World& w) -> Async<> {
    const TaskId other{"00001111222233334444555566667777"};
    w.machine.deaf = {"deaf"};
    link::Assignment deaf = assignment("deaf", other);
    deaf.stop_timeout = 20ms;
    w.control.put(assignment("web"));
    w.control.put(deaf);
    co_await w.control.until_health(kTask, Health::kHealthy);
    co_await w.control.until_health(other, Health::kHealthy);
    co_await w.stop_agent(Agent::Tasks::kStop);
    EXPECT_EQ(w.machine.containers(), 0u);
    EXPECT_EQ(w.machine.networks(), 0u);
    EXPECT_TRUE(std::filesystem::is_empty(w.directory / "tasks"));
    EXPECT_FALSE(w.machine.has_log(kTask.value));
    // Not what control wanted: it is not told that they stopped.
    EXPECT_EQ(w.control.reports[kTask].status, TaskStatus::kRunning);
  });
}

TEST(Agent, ADamagedRecordEndsNoTaskAndControlTellsItAgain) {
  in_world([](World& w) -> Async<> {
    w.control.put(assignment("web"));
    co_await w.control.until_health(kTask, Health::kHealthy);
    co_await w.stop_agent();
    std::ofstream(w.directory / "tasks" / (kTask.value + ".json")) << "{\"assignment\": 7";
    w.control.reports.clear();
    co_await w.start_agent();
    co_await w.control.until_health(kTask, Health::kHealthy);
    EXPECT_EQ(w.machine.starts(kTask.value), 1);
  });
}

TEST(Agent, ShipsOutputOnceAndInOrder) {
  in_world([](World& w) -> Async<> {
    const std::string stream = "instance/" + kTask.value;
    w.control.put(assignment("web"));
    co_await w.control.until("the first line", [&] { return w.control.lines[stream].size() == 1; });
    // Not acknowledged, and the agent is gone and comes back: repeated with the same end, so not
    // stored twice.
    w.control.acknowledge = false;
    std::vector<std::string> want = {"start 1"};
    for (int i = 0; i < 100; ++i) {
      w.machine.print(kTask.value, "line " + std::to_string(i));
      want.push_back("line " + std::to_string(i));
    }
    co_await w.control.until("the next lines", [&] { return w.control.lines[stream].size() > 1; });
    co_await w.stop_agent();
    for (int i = 100; i < 200; ++i) {
      w.machine.print(kTask.value, "line " + std::to_string(i));
      want.push_back("line " + std::to_string(i));
    }
    w.control.acknowledge = true;
    co_await w.start_agent();
    co_await w.control.until("all lines",
                             [&] { return w.control.lines[stream].size() >= want.size(); });
    EXPECT_EQ(w.control.lines[stream], want);
  });
}

TEST(AgentSleep, FreezesWhatWasReleasedAndThawsWhatIsHeld) {
  in_world([](World& w) -> Async<> {
    co_await w.run_for_long(assignment("web"));
    SimulatedEdge edge = w.edge();
    co_await edge.link({kTask});
    EXPECT_EQ((co_await edge.answer()).awake, std::vector<TaskId>{kTask});
    edge.release(kTask);
    co_await w.until_asleep(kTask);
    EXPECT_EQ(w.control.reports[kTask].status, TaskStatus::kRunning);
    EXPECT_EQ(w.control.reports[kTask].health, Health::kHealthy);
    EXPECT_NE(w.metrics.render().find("hob_host_tasks_asleep 1\n"), std::string::npos);
    edge.hold(kTask);
    EXPECT_EQ((co_await edge.answer()).awake, std::vector<TaskId>{kTask});
    EXPECT_FALSE(w.machine.is_frozen(kTask.value)) << "it is awake before it is called so";
    co_await w.until_asleep(kTask, false);
    edge.hold(kTask);
    EXPECT_EQ((co_await edge.answer()).awake, std::vector<TaskId>{kTask}) << "repeated";
    const std::string metrics = w.metrics.render();
    EXPECT_NE(metrics.find("hob_host_wakes_total 1\n"), std::string::npos);
    EXPECT_NE(metrics.find("hob_host_wake_duration_seconds_bucket{le=\"+Inf\"} 1\n"),
              std::string::npos);
    EXPECT_NE(metrics.find("hob_host_tasks_asleep 0\n"), std::string::npos);
    co_await edge.stop();
  });
}

TEST(AgentSleep, SleepsWithControlGone) {
  in_world([](World& w) -> Async<> {
    co_await w.run_for_long(assignment("web"));
    co_await w.control.stop();
    SimulatedEdge edge = w.edge();
    co_await edge.link({kTask});
    (void)co_await edge.answer();
    edge.release(kTask);
    co_await w.control.until("it sleeps", [&] { return w.machine.is_frozen(kTask.value); });
    edge.hold(kTask);
    EXPECT_EQ((co_await edge.answer()).awake, std::vector<TaskId>{kTask});
    edge.release(kTask);
    co_await w.control.until("it sleeps", [&] { return w.machine.is_frozen(kTask.value); });
    w.control.start();
    co_await w.control.until("control hears", [&] { return w.control.reports[kTask].asleep; });
    co_await edge.stop();
  });
}

TEST(AgentSleep, AHoldCallsOffAFreezeUnderWay) {
  in_world([](World& w) -> Async<> {
    co_await w.run_for_long(assignment("web"));
    SimulatedEdge edge = w.edge();
    co_await edge.link({kTask});
    (void)co_await edge.answer();
    w.machine.freeze_gate().reset();
    edge.release(kTask);
    edge.hold(kTask);
    EXPECT_EQ((co_await edge.answer()).awake, std::vector<TaskId>{kTask});
    w.machine.freeze_gate().set();
    edge.hold(kTask);
    EXPECT_EQ((co_await edge.answer()).awake, std::vector<TaskId>{kTask});
    EXPECT_FALSE(w.machine.is_frozen(kTask.value));
    co_await edge.stop();
  });
}

TEST(AgentSleep, AHoldIsAnsweredOnceTheTaskRuns) {
  in_world([](World& w) -> Async<> {
    const TaskId nobody{"00001111222233334444555566667777"};
    w.machine.pull_gate().reset();
    w.control.put(assignment("web"));
    co_await w.control.until_status(kTask, TaskStatus::kActivating);
    SimulatedEdge edge = w.edge();
    co_await edge.link({kTask, nobody});
    EXPECT_EQ((co_await edge.answer()).unknown, std::vector<TaskId>{nobody});
    w.machine.pull_gate().set();
    EXPECT_EQ((co_await edge.answer()).awake, std::vector<TaskId>{kTask});
    w.control.stop_task(kTask);
    co_await w.control.until_status(kTask, TaskStatus::kStopped);
    edge.hold(kTask);
    EXPECT_EQ((co_await edge.answer()).unknown, std::vector<TaskId>{kTask});
    co_await edge.stop();
  });
}

TEST(AgentSleep, AHoldOfWhatEndsBeforeItRunsIsAnswered) {
  in_world([](World& w) -> Async<> {
    w.machine.pull_gate().reset();
    w.control.put(assignment("web"));
    co_await w.control.until_status(kTask, TaskStatus::kActivating);
    SimulatedEdge edge = w.edge();
    co_await edge.link({});
    edge.hold(kTask);
    w.control.stop_task(kTask);
    EXPECT_EQ((co_await edge.answer()).unknown, std::vector<TaskId>{kTask});
    co_await edge.stop();
  });
}

TEST(AgentSleep, AnEdgeThatIsGoneHoldsForAWhile) {
  in_world([](World& w) -> Async<> {
    co_await w.run_for_long(assignment("web"));
    SimulatedEdge edge = w.edge("eeee");
    SimulatedEdge other = w.edge("ffff");
    co_await edge.link({kTask});
    (void)co_await edge.answer();
    co_await other.link({kTask});
    (void)co_await other.answer();
    co_await edge.unlink();
    co_await w.control.until("its end is seen", [&] {
      return w.metrics.render().find("hob_host_edges 1\n") != std::string::npos;
    });
    other.release(kTask);
    other.release(kTask);
    // It comes back before its hold has ended, and names it again: nothing has happened.
    co_await edge.link({kTask});
    EXPECT_EQ((co_await edge.answer()).awake, std::vector<TaskId>{kTask});
    EXPECT_FALSE(w.machine.is_frozen(kTask.value));
    // Gone for longer, its hold ends; the task sleeps, since another edge released it.
    co_await edge.unlink();
    co_await w.control.until("its end is seen", [&] {
      return w.metrics.render().find("hob_host_edges 1\n") != std::string::npos;
    });
    other.release(kTask);
    w.clock.pass(kHoldsKept);
    other.release(kTask);
    co_await w.until_asleep(kTask);
    // Back again, it does not name what it once held.
    co_await edge.link({});
    edge.hold(kTask);
    EXPECT_EQ((co_await edge.answer()).awake, std::vector<TaskId>{kTask});
    co_await edge.unlink();
    co_await edge.link({});
    co_await w.until_asleep(kTask);
    co_await edge.stop();
    co_await other.stop();
  });
}

TEST(AgentSleep, WhatAnAgentFindsStaysAsItIs) {
  in_world([](World& w) -> Async<> {
    const TaskId awake{"00001111222233334444555566667777"};
    co_await w.run_for_long(assignment("web"));
    co_await w.run_for_long(assignment("web", awake));
    SimulatedEdge edge = w.edge();
    co_await edge.link({kTask, awake});
    (void)co_await edge.answer();
    edge.release(kTask);
    co_await w.until_asleep(kTask);
    co_await w.stop_agent();
    w.control.reports.clear();
    co_await w.start_agent();
    co_await w.control.until("both are reported", [&] { return w.control.reports.size() == 2; });
    EXPECT_TRUE(w.control.reports[kTask].asleep);
    EXPECT_EQ(w.control.reports[kTask].health, Health::kHealthy);
    EXPECT_FALSE(w.control.reports[awake].asleep);
    co_await edge.stop();

    // Nothing is frozen until edges have had the time to say what they hold.
    SimulatedEdge again = w.edge();
    co_await again.link({kTask});
    again.release(awake);
    EXPECT_EQ((co_await again.answer()).awake, std::vector<TaskId>{kTask});
    EXPECT_FALSE(w.machine.is_frozen(awake.value));
    w.clock.pass(kHoldsKept);
    again.release(awake);
    co_await w.until_asleep(awake);
    co_await again.stop();
  });
}

TEST(AgentSleep, ProbesPauseAndGoOn) {
  in_world([](World& w) -> Async<> {
    co_await w.run_for_long(assignment("web"));
    SimulatedEdge edge = w.edge();
    co_await edge.link({kTask});
    (void)co_await edge.answer();
    for (int round = 0; round < 3; ++round) {
      edge.release(kTask);
      co_await w.until_asleep(kTask);
      const int probes = w.machine.probes(kTask.value);
      // Another task's probes of the same interval tell that time has passed.
      const TaskId other{"0000111122223333444455556666000" + std::to_string(round)};
      w.control.put(assignment("web", other));
      co_await w.control.until("others are probed",
                               [&] { return w.machine.probes(other.value) >= 8; });
      EXPECT_EQ(w.machine.probes(kTask.value), probes);
      w.clock.pass(1h);
      edge.hold(kTask);
      (void)co_await edge.answer();
      co_await w.control.until("it is probed again",
                               [&] { return w.machine.probes(kTask.value) >= probes + 6; });
      EXPECT_EQ(w.control.reports[kTask].health, Health::kHealthy);
    }
    // And what is broken after a wake is found out.
    w.machine.silent = {"web"};
    co_await w.control.until_health(kTask, Health::kUnhealthy);
    co_await edge.stop();
  });
}

TEST(AgentSleep, AFrozenTaskStopsWhenItIsNotWanted) {
  in_world([](World& w) -> Async<> {
    co_await w.run_for_long(assignment("web"));
    SimulatedEdge edge = w.edge();
    co_await edge.link({kTask});
    (void)co_await edge.answer();
    edge.release(kTask);
    co_await w.until_asleep(kTask);
    w.control.stop_task(kTask);
    co_await w.control.until_status(kTask, TaskStatus::kStopped);
    EXPECT_EQ(w.machine.signals(), std::vector<int>{15});
    EXPECT_FALSE(w.control.reports[kTask].asleep);
    EXPECT_EQ(w.machine.containers(), 0u);
    co_await edge.stop();
  });
}

TEST(AgentSleep, WhatCannotBeFrozenStaysAwake) {
  in_world([](World& w) -> Async<> {
    w.machine.restless = {"restless"};
    co_await w.run_for_long(assignment("restless"));
    SimulatedEdge edge = w.edge();
    co_await edge.link({kTask});
    (void)co_await edge.answer();
    edge.release(kTask);
    edge.hold(kTask);
    EXPECT_EQ((co_await edge.answer()).awake, std::vector<TaskId>{kTask});
    EXPECT_FALSE(w.machine.is_frozen(kTask.value));
    co_await edge.stop();
  });
}

TEST(AgentSleep, AThawThatFailsIsTriedAgain) {
  in_world([](World& w) -> Async<> {
    co_await w.run_for_long(assignment("web"));
    SimulatedEdge edge = w.edge();
    co_await edge.link({kTask});
    (void)co_await edge.answer();
    edge.release(kTask);
    co_await w.until_asleep(kTask);
    w.machine.thaws_unavailable = 2;
    edge.hold(kTask);
    EXPECT_EQ((co_await edge.answer()).awake, std::vector<TaskId>{kTask});
    EXPECT_FALSE(w.machine.is_frozen(kTask.value));
    co_await edge.stop();
  });
}

TEST(AgentSleep, RefusesWhatNoEdgeSays) {
  in_world([](World& w) -> Async<> {
    SimulatedEdge edge = w.edge();
    co_await edge.link({});
    link::TargetHold much;
    much.hold.assign(kTargetsNamedMax + 1, kTask);
    edge.send(much);
    co_await w.control.until("the link is ended", [&] { return edge.unlinked(); });
    co_await edge.stop();
    SimulatedEdge nobody = w.edge("");
    co_await nobody.link({});
    co_await w.control.until("the link is ended", [&] { return nobody.unlinked(); });
    co_await nobody.stop();
    SimulatedEdge garbled = w.edge();
    co_await garbled.link({});
    garbled.send_bytes({.type = "TargetHold", .body = "{\"hold\": 7}"});
    co_await w.control.until("the link is ended", [&] { return garbled.unlinked(); });
    co_await garbled.stop();
  });
}

TEST(AgentSleep, ALinkOfTheSameEdgeReplacesTheOneBefore) {
  in_world([](World& w) -> Async<> {
    co_await w.run_for_long(assignment("web"));
    SimulatedEdge before = w.edge();
    SimulatedEdge after = w.edge();
    co_await before.link({kTask});
    (void)co_await before.answer();
    co_await after.link({});
    co_await w.control.until("the first is ended", [&] { return before.unlinked(); });
    co_await w.until_asleep(kTask);
    co_await before.stop();
    after.hold(kTask);
    EXPECT_EQ((co_await after.answer()).awake, std::vector<TaskId>{kTask});
    co_await after.stop();
  });
}

}  // namespace
}  // namespace hob::host
