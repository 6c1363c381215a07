// Sleep with the real parts: a container, its network, its probes, an edge's link. Control is dead
// all the time. Needs root, as the sandbox's suite does, whose VPC and image it uses.
#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <cstdio>

#include "base/http.h"
#include "host/agent.h"
#include "host/simulated_edge.h"
#include "sandbox/sandbox_suite.h"

namespace hob::host {
namespace {

using sandbox::Driver;
using sandbox::SandboxPlace;
using testing::SimulatedEdge;
using testing::TestClock;

constexpr int kRounds = 100;

// The one image there is.
class OneImage final : public ImagePort {
 public:
  explicit OneImage(image::LocalImage image) : image_(std::move(image)) {}
  Async<Result<image::LocalImage>> pull(image::PullRequest) override { co_return image_; }

 private:
  image::LocalImage image_;
};

std::unique_ptr<sandbox::Sandbox> make(const SandboxPlace& place, const Executor& executor,
                                       BlockingPool& pool) {
  return sandbox::make_container_sandbox({.directory = place.directory,
                                          .instance = place.instance,
                                          .shared_directory = place.shared_directory},
                                         executor, pool);
}

std::string percentiles(std::vector<double> milliseconds) {
  std::ranges::sort(milliseconds);
  return fmt::format("p50 {:.2f} ms, p99 {:.2f} ms", milliseconds[milliseconds.size() / 2],
                     milliseconds[milliseconds.size() * 99 / 100]);
}

class ContainerSleep : public sandbox::SandboxSuite {
 protected:
  // What of an agent's world lives as long as the loop.
  struct Parts {
    Parts(const Executor& executor, ContainerSleep& test, image::LocalImage image_of_all)
        : pool(2),
          image(std::move(image_of_all)),
          network(make_network_port(*test.vpc_, pool)),
          probe(make_probe_port(test.vpc_->handle())),
          sandbox(make(test.place_, executor, pool)) {}
    BlockingPool pool;
    TestClock clock;
    SystemRandom random;
    Metrics metrics;
    OneImage image;
    std::unique_ptr<NetworkPort> network;
    std::unique_ptr<ProbePort> probe;
    std::unique_ptr<sandbox::Sandbox> sandbox;
    TaskPorts ports() { return {image, *network, *probe, *sandbox, clock, pool}; }
  };

  // What the agent was told before control died.
  void save(const sandbox::TaskSpec& spec) {
    link::Assignment assignment{.task = TaskId{spec.task}, .account = "000000000001"};
    assignment.containers = {{.name = "app",
                              .image = {.repository = "hello", .reference = "1"},
                              .command = spec.command}};
    assignment.address = spec.address;
    assignment.gateway = "198.18.0.1";
    assignment.stop_timeout = Duration(100);  // its first process does not hear SIGTERM
    assignment.probe = link::Probe{.port = 80, .interval = Duration(100)};
    ASSERT_TRUE(make_directories(directory_ / "agent/tasks", 0700).has_value());
    std::ofstream(directory_ / "agent/tasks" / (spec.task + ".json"))
        << encode(SavedTask{.assignment = assignment});
  }
  std::string hold_socket() const { return directory_ / "host.sock"; }
  Async<std::unique_ptr<Agent>> start_agent(const Executor& executor, Parts& parts) {
    AgentOptions options{.directory = directory_ / "agent",
                         .control_socket = directory_ / "nobody.sock",
                         .host = HostId{"h"},
                         .zone = "us-east-1a",
                         .version = "1",
                         .edge_uids = {::getuid()}};
    ::unlink(hold_socket().c_str());
    Result<Fd> holds = http::listen_unix(hold_socket(), 0600);
    EXPECT_TRUE(holds.has_value());
    if (holds) options.hold_socket = std::move(*holds);
    auto agent = std::make_unique<Agent>(executor, std::move(options), parts.ports(), parts.random,
                                         parts.metrics);
    const Result<void> started = co_await agent->start();
    EXPECT_TRUE(started.has_value()) << (started ? "" : started.error().message);
    co_return agent;
  }
  // False, and a failure of the test, if it never is so.
  static Async<bool> until_asleep(const Metrics& metrics, int count, const char* when) {
    const std::string wanted = fmt::format("\nhob_host_tasks_asleep {}\n", count);
    const auto give_up = std::chrono::steady_clock::now() + testing::kPatience;
    while (!metrics.render().contains(wanted)) {
      if (std::chrono::steady_clock::now() > give_up) {
        ADD_FAILURE() << "never so many asleep: " << count << ", " << when;
        co_return false;
      }
      co_await boost::asio::post(boost::asio::use_awaitable);
    }
    co_return true;
  }
};

TEST_P(ContainerSleep, ARequestInFlightDuringAWakeGetsItsAnswer) {
  const sandbox::TaskSpec spec = task({"/bin/httpd", "-f", "-p", "80", "-h", "/var/www"});
  const TaskId id{spec.task};
  save(spec);
  // The suite's own sandbox makes way for the agent's.
  ASSERT_TRUE(vpc_->detach(spec.task).has_value());
  agent_.reset();
  boost::asio::io_context loop(1);
  Parts parts(loop.get_executor(), *this, {.digest = "sha256:0", .layers = {directory_ / "layer"}});
  const auto body = [&]() -> Async<> {
    const Executor executor = loop.get_executor();
    std::unique_ptr<Agent> agent = co_await start_agent(executor, parts);
    {
      SimulatedEdge edge(executor, hold_socket(), EdgeId{"e"});
      co_await edge.link({id});
      EXPECT_EQ((co_await edge.answer()).awake, std::vector<TaskId>{id}) << "once it has started";
      parts.clock.pass(kAwakeAfterStart);
      std::vector<double> freezes, wakes;
      for (int round = 0; round < kRounds; ++round) {
        auto since = std::chrono::steady_clock::now();
        const auto took = [&] {
          return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - since)
              .count();
        };
        edge.release(id);
        if (!co_await until_asleep(parts.metrics, 1, "in a round")) break;
        freezes.push_back(took());
        const Result<Asked> waiting = ask(spec.address, 80);
        EXPECT_TRUE(waiting.has_value()) << (waiting ? "" : waiting.error().message);
        since = std::chrono::steady_clock::now();
        edge.hold(id);
        EXPECT_EQ((co_await edge.answer()).awake, std::vector<TaskId>{id});
        wakes.push_back(took());
        if (waiting) EXPECT_NE(answer_on(*waiting).find("hello"), std::string::npos) << round;
      }
      if (!wakes.empty()) {
        std::printf("release to asleep: %s; hold to awake: %s\n", percentiles(freezes).c_str(),
                    percentiles(wakes).c_str());
      }
      // Left asleep, it is found asleep by the next agent, and woken by it.
      edge.release(id);
      (void)co_await until_asleep(parts.metrics, 1, "before the restart");
      co_await edge.stop();
    }
    co_await agent->stop(Agent::Tasks::kLeave);
    parts.sandbox = make(place_, executor, parts.pool);
    agent = co_await start_agent(executor, parts);
    (void)co_await until_asleep(parts.metrics, 1, "after the restart");
    const Result<Asked> waiting = ask(spec.address, 80);
    SimulatedEdge edge(executor, hold_socket(), EdgeId{"e"});
    co_await edge.link({id});
    EXPECT_EQ((co_await edge.answer()).awake, std::vector<TaskId>{id});
    if (waiting) EXPECT_NE(answer_on(*waiting).find("hello"), std::string::npos);
    // And a host can be emptied of what sleeps.
    parts.clock.pass(kHoldsKept);
    edge.release(id);
    (void)co_await until_asleep(parts.metrics, 1, "in the end");
    co_await edge.stop();
    co_await agent->stop(Agent::Tasks::kStop);
  };
  boost::asio::co_spawn(loop, body(), [](std::exception_ptr failure) {
    if (failure) std::rethrow_exception(failure);
  });
  loop.run();
  parts.pool.join();
  ASSERT_NO_FATAL_FAILURE(restart_agent());
}

INSTANTIATE_TEST_SUITE_P(Host, ContainerSleep, ::testing::Values(Driver{"Container", make}),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace hob::host
