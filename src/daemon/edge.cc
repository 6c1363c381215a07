// The edge's process. A user of its own, inside the VPC's namespace, with sockets from outside.
#include "edge/edge.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/signal_set.hpp>
#include <csignal>

#include "base/log.h"
#include "base/metrics.h"
#include "base/version.h"
#include "daemon/options.h"
#include "daemon/process.h"

namespace hob::daemon {
namespace {

constexpr Duration kDrainWithin{10'000};
// The supervisor's word to hand over to another edge, which serves by then.
constexpr int kHandOverSignal = SIGUSR1;

// One loop for each core this process may use.
size_t cores() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return 1;
  return static_cast<size_t>(std::clamp(CPU_COUNT(&allowed), 1, 64));
}

}  // namespace

Async<Result<void>> run_edge(Options options) {
  const Executor executor = co_await boost::asio::this_coro::executor;
  Metrics metrics;
  edge::Options settings{.control_socket = options.link.string(),
                         .host_socket = options.host_socket.string(),
                         .directory = (options.data / "edge").string(),
                         .loops = cores(),
                         .zone = options.zone,
                         .version = kVersion,
                         .takes_over = options.takes_over};
  settings.http_listeners.emplace_back(options.http_fd);
  if (options.access_log_fd >= 0 && options.access_log_previous_fd >= 0) {
    settings.access_log = Fd(options.access_log_fd);
    settings.access_log_previous = Fd(options.access_log_previous_fd);
  }
  if (options.https_fd >= 0) {
    settings.https_listeners.emplace_back(options.https_fd);
    settings.certificates = (options.data / "certificates").string();
  }
  edge::Edge edge(std::move(settings), executor, metrics);
  HOB_CO_CHECK(edge.start());
  co_await edge.serving();
  std::unique_ptr<http::Server> metrics_server =
      serve_metrics(executor, options.metrics_fd, [&metrics] { return metrics.render(); });
  // Nobody reads there but while this edge drains: then it has lines of its own beside its
  // successor's, or what it counts from here on would be lost.
  bool draining = false;
  std::unique_ptr<http::Server> own_metrics_server =
      serve_metrics(executor, options.own_metrics_fd, [&metrics, &draining]() -> std::string {
        if (!draining) return "";
        return metrics.render({{"draining", std::to_string(getpid())}});
      });
  Event over(executor);
  AsyncScope scope(executor);
  // Before the supervisor hears that it may send one.
  boost::asio::signal_set signals(executor, SIGTERM, SIGINT, kHandOverSignal);
  scope.spawn("signals", [&]() -> Async<> {
    while (co_await next_signal(signals) == kHandOverSignal) {
      scope.spawn("hand over", [&]() -> Async<> {
        // The successor answers on the same socket.
        draining = true;
        if (metrics_server) co_await metrics_server->stop(Duration(0));
        co_await edge.hand_over();
        over.set();
      });
    }
    over.set();
  });
  log::info("edge is ready", {{"io", edge.io_name()}});
  tell_supervisor(options, "ready");
  co_await over.wait();
  scope.cancel();
  co_await scope.join();
  co_await edge.stop(kDrainWithin);
  for (const auto& server : {metrics_server.get(), own_metrics_server.get()}) {
    if (server != nullptr) co_await server->stop(Duration(0));
  }
  co_return Result<void>{};
}

}  // namespace hob::daemon
