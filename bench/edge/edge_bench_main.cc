// An edge without control, for measuring: serves HOST on PORT from the targets given, until
// SIGTERM.
//
//   edge_bench PORT LOOPS uring|epoll|best HOST TARGET_PORT...
//
// With EDGE_BENCH_TLS="PORT DIRECTORY" also by TLS, with the certificates in DIRECTORY; with
// EDGE_BENCH_PROTOCOL=http2 the targets are spoken to by that.
#include <fcntl.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/async.h"
#include "base/http.h"
#include "edge/edge.h"

using namespace hob;

int main(int argc, char** argv) {
  if (argc < 6) {
    std::fprintf(stderr, "usage: edge_bench PORT LOOPS uring|epoll|best HOST TARGET_PORT...\n");
    return 2;
  }
  auto listener = http::listen_tcp("127.0.0.1", static_cast<uint16_t>(std::atoi(argv[1])));
  if (!listener) {
    std::fprintf(stderr, "edge_bench: %s\n", listener.error().message.c_str());
    return 1;
  }
  boost::asio::io_context context(1);
  Metrics metrics;
  edge::Options options;
  options.http_listeners.push_back(std::move(*listener));
  options.loops = static_cast<size_t>(std::atoi(argv[2]));
  const std::string_view io = argv[3];
  options.io = io == "uring"   ? edge::Io::kUring
               : io == "epoll" ? edge::Io::kEpoll
                               : edge::Io::kBest;
  if (const char* log = std::getenv("EDGE_BENCH_ACCESS_LOG")) {
    const std::string path = log;
    options.access_log = Fd(open(path.c_str(), O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0640));
    options.access_log_previous =
        Fd(open((path + ".1").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0640));
    if (!options.access_log || !options.access_log_previous) {
      std::fprintf(stderr, "edge_bench: EDGE_BENCH_ACCESS_LOG=%s\n", log);
      return 1;
    }
  }
  if (const char* tls = std::getenv("EDGE_BENCH_TLS")) {
    const std::string text = tls;
    const size_t blank = text.find(' ');
    auto secure = http::listen_tcp("127.0.0.1",
                                   static_cast<uint16_t>(std::atoi(text.substr(0, blank).c_str())));
    if (!secure || blank == std::string::npos) {
      std::fprintf(stderr, "edge_bench: EDGE_BENCH_TLS=%s\n", tls);
      return 1;
    }
    options.https_listeners.push_back(std::move(*secure));
    options.certificates = text.substr(blank + 1);
  }
  edge::Edge edge(std::move(options), context.get_executor(), metrics);
  if (auto started = edge.start(); !started) {
    std::fprintf(stderr, "edge_bench: %s\n", started.error().message.c_str());
    return 1;
  }
  link::Route route{.service = "bench",
                    .service_name = "bench",
                    .host_names = {argv[4]},
                    .max_concurrency = 1'000};
  if (const char* protocol = std::getenv("EDGE_BENCH_PROTOCOL");
      protocol != nullptr && std::string_view(protocol) == "http2") {
    route.protocol = link::TargetProtocol::kHttp2;
  }
  for (int i = 5; i < argc; ++i) {
    route.targets.push_back(
        {.task = TaskId{argv[i]}, .address = "127.0.0.1", .port = std::atoi(argv[i])});
  }
  edge.apply({.version = 1, .routes = {route}});
  std::printf("edge_bench: serving %s on %s by %s\n", argv[4], argv[1], edge.io_name().c_str());
  std::fflush(stdout);

  AsyncScope scope(context.get_executor());
  boost::asio::signal_set signals(context, SIGTERM, SIGINT);
  signals.async_wait([&](boost::system::error_code, int) {
    scope.spawn("stop", [&]() -> Async<> {
      co_await edge.stop(Duration(1'000));
      context.stop();
    });
  });
  context.run();
  return 0;
}
