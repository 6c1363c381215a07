// The host agent's process: images, the VPC, the sandbox and the agent over them. Root.
#include <unistd.h>

#include <cstdlib>

#include "base/ids.h"
#include "base/log.h"
#include "base/version.h"
#include "daemon/options.h"
#include "daemon/process.h"
#include "daemon/source_deployer.h"
#include "host/agent.h"
#include "host/ports.h"
#include "image/image_store.h"
#include "network/dns_forwarder.h"
#include "network/vpc.h"
#include "sandbox/sandbox.h"

namespace hob::daemon {
namespace {

constexpr size_t kBlockingThreads = 4;
constexpr Duration kPruneEvery = std::chrono::hours(1);
// An image that nothing runs stays so long: a roll-back or a paused service should not pull again.
constexpr Duration kUnusedImageKept = std::chrono::hours(7 * 24);

// This machine's name for itself, made once.
Result<HostId> host_id(const std::filesystem::path& directory) {
  const std::filesystem::path path = directory / "id";
  Result<std::string> known = read_file(path, 64);
  if (known && known->size() == 32) return HostId{*known};
  if (!known && known.error().code != Code::kNotFound) return fail(std::move(known).error());
  SystemRandom random;
  HostId fresh{random_hex(random, 32)};
  HOB_CHECK(write_file_durably(path, fresh.value, 0600));
  return fresh;
}

network::VpcOptions vpc_options(const Options& options) {
  return {.instance = options.instance, .run_directory = options.data / "run" / "netns"};
}

// What an agent stands on, in the order it is made.
struct HostParts {
  HostParts(const Options& options, const Executor& executor)
      : pool(kBlockingThreads),
        images(options.data / "host" / "images", pool),
        vpc(vpc_options(options)),
        sandbox(sandbox::make_mixed_sandbox(
            {.directory = options.data / "host" / "sandbox", .instance = options.instance},
            {.directory = options.data / "host" / "sandbox",
             .instance = options.instance,
             .kernel = options.data / "kernel" / "vmlinuz",
             .initrd = options.data / "kernel" / "initrd"},
            options.microvms, executor, pool)),
        image_port(host::make_image_port(images)),
        network_port(host::make_network_port(vpc, pool)),
        probe_port(host::make_probe_port(vpc.handle())) {}
  BlockingPool pool;
  SystemClock clock;
  SystemRandom random;
  Metrics metrics;
  image::ImageStore images;
  network::Vpc vpc;
  std::unique_ptr<sandbox::Sandbox> sandbox;
  std::unique_ptr<host::ImagePort> image_port;
  std::unique_ptr<host::NetworkPort> network_port;
  std::unique_ptr<host::ProbePort> probe_port;

  host::TaskPorts ports() {
    return {*image_port, *network_port, *probe_port, *sandbox, clock, pool};
  }
};

// hob-build and the runtimes, installed with this program or beside it in a build tree.
host::BuildTools build_tools(const Options& options) {
  const auto beside_us = [](std::initializer_list<const char*> places) {
    std::error_code error;
    const auto own = std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
    for (const char* place : places) {
      if (std::filesystem::exists(own / place, error)) return own / place;
    }
    return std::filesystem::path();
  };
  const char* named = std::getenv("HOB_BUILD_STATE");
  return {.program = beside_us({"hob-build", "../libexec/hob-build"}),
          .runtimes = beside_us({"../share/hob/runtimes", "../../runtimes"}),
          .state = named != nullptr && *named != 0 ? std::filesystem::path(named)
                                                   : options.data / "builder",
          .directory = options.data / "host" / "builds"};
}

Result<host::AgentOptions> agent_options(const Options& options) {
  HOB_TRY(const HostId id, host_id(options.data / "host"));
  host::AgentOptions agent{.directory = options.data / "host",
                           .control_socket = options.link.string(),
                           .host = id,
                           .zone = options.zone,
                           .version = kVersion,
                           .microvms = options.microvms,
                           .can_microvm = options.can_microvm,
                           .build_tools = build_tools(options),
                           .hold_socket = Fd(options.hold_fd),
                           .edge_uids = {0, options.edge_uid}};
  if (options.cpu_overcommit > 0) agent.cpu_overcommit = options.cpu_overcommit;
  if (options.memory_overcommit > 0) agent.memory_overcommit = options.memory_overcommit;
  return agent;
}

// Both outlive it: it is spawned in serve()'s own scope.
Async<> prune_images(image::ImageStore& images, const host::Agent& agent) {
  for (;;) {
    co_await sleep_for(kPruneEvery);
    const Result<void> pruned = co_await images.prune(agent.images_in_use(), kUnusedImageKept);
    if (!pruned) log::warn("images not pruned", {{"error", pruned.error().message}});
  }
}

// The agent over its parts, from start to end.
Async<Result<void>> serve(const Options& options, const Executor& executor, HostParts& parts) {
  HOB_CO_CHECK(context(co_await parts.images.open(), "opening the images"));
  HOB_CO_TRY(host::AgentOptions agent_settings, agent_options(options));
  host::Agent agent(executor, std::move(agent_settings), parts.ports(), parts.random,
                    parts.metrics);
  std::unique_ptr<http::Server> metrics_server = serve_metrics(
      executor, options.metrics_fd, [&metrics = parts.metrics] { return metrics.render(); });
  Result<void> started = co_await agent.start();
  AsyncScope chores(executor);
  std::unique_ptr<http::Server> deployments;
  if (started) {
    auto serves = serve_deployments(executor, options.data, options.api_port);
    if (serves)
      deployments = std::move(*serves);
    else
      started = fail(serves.error());
  }
  if (started) {
    chores.spawn("prune images", prune_images(parts.images, agent));
    log::info("host is ready");
    tell_supervisor(options, "ready");
    co_await wait_for_end();
  }
  if (deployments) co_await deployments->stop(Duration(0));
  chores.cancel();
  co_await chores.join();
  co_await agent.stop(host::Agent::Tasks::kLeave);
  if (metrics_server) co_await metrics_server->stop(Duration(0));
  co_return started;
}

}  // namespace

Async<Result<void>> run_host(Options options) {
  const Executor executor = co_await boost::asio::this_coro::executor;
  HostParts parts(options, executor);
  HOB_CO_CHECK(context(co_await on_pool(parts.pool, [&vpc = parts.vpc] { return vpc.set_up(); }),
                       "making the VPC"));
  tell_supervisor(options, "prepared");
  network::DnsForwarder dns({.vpc = parts.vpc.handle()}, executor);
  const Result<void> resolves = dns.start();
  if (!resolves) {
    co_await dns.stop();
    co_return context(Result<void>(resolves), "starting DNS for tasks");
  }
  Result<void> ended = co_await serve(options, executor, parts);
  co_await dns.stop();
  co_return ended;
}

Async<Result<void>> run_tear_down(Options options) {
  const Executor executor = co_await boost::asio::this_coro::executor;
  HostParts parts(options, executor);
  HOB_CO_TRY(host::AgentOptions agent_settings, agent_options(options));
  host::Agent agent(executor, std::move(agent_settings), parts.ports(), parts.random,
                    parts.metrics);
  // What can be removed is removed, whatever else fails.
  Result<void> stopped = co_await agent.start();
  co_await agent.stop(host::Agent::Tasks::kStop);
  Result<void> torn = co_await on_pool(parts.pool, [&vpc = parts.vpc] { return vpc.tear_down(); });
  HOB_CO_CHECK(context(std::move(stopped), "stopping the tasks"));
  HOB_CO_CHECK(context(std::move(torn), "removing the VPC"));
  co_return Result<void>{};
}

}  // namespace hob::daemon
