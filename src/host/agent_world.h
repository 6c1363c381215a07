// For tests of the agent: an agent over a simulated machine, with control at the other end of a
// real link.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/http.h"
#include "base/testing_loop.h"
#include "host/agent.h"
#include "host/hold_server.h"
#include "host/simulated_edge.h"
#include "host/simulated_machine.h"

namespace hob::host::testing {

using namespace std::chrono_literals;
using link::Health;
using link::TaskStatus;

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

inline const TaskId kTask{"aaaabbbbccccddddeeeeffff00001111"};

inline link::Assignment assignment(const std::string& image, TaskId task = kTask) {
  link::Assignment made{.task = task, .account = "000000000001", .service = "svc"};
  made.containers = {{.name = "app",
                      .image = {.registry = "127.0.0.1:1", .repository = image, .reference = "1"},
                      .log_group = "group",
                      .log_stream = "instance/" + task.value}};
  made.address = task.value;  // the simulated machine's probes go by it
  made.probe = link::Probe{.port = 8080, .interval = 20ms, .timeout = 1s, .unhealthy_threshold = 5};
  return made;
}

}  // namespace hob::host::testing
