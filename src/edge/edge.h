// The edge as the daemon sees it: give it listening sockets and control's socket, and it serves.
//
// One thread per loop carries requests; the link to control, reports and measurements live on the
// executor's thread, from which everything here is called. The last route table is kept in
// `directory` and served from at start, with or without control (static stability).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/async.h"
#include "base/file.h"
#include "base/metrics.h"
#include "edge/limits.h"
#include "edge/loop.h"
#include "link/messages.h"

namespace hob::edge {

struct Options {
  // Listening TCP sockets. Each is shared by all loops, which take connections from it in turn.
  std::vector<Fd> http_listeners{};
  std::vector<Fd> https_listeners{};  // the same, for TLS
  // Of *.pem files, a key with its certificate and those above it in each; looked at again every
  // kCertificatesLook. Empty: TLS connections are closed at once.
  std::string certificates{};
  std::string control_socket{};  // empty: no link, tables come by apply()
  std::string host_socket{};     // of the host whose tasks are woken; empty: nothing sleeps
  std::string directory{};       // of ours alone; empty: nothing is kept
  size_t loops = 1;              // 1..64
  std::string zone{};
  std::string version{};
  // Another edge serves on the same sockets and in the same directory, and hands over to this one:
  // it gets an id of its own, and serves once it has been told a table, or after kTableAwaited.
  bool takes_over = false;
  // Two files, access_log.h says how they are open (README.md how lines read); none: no log.
  Fd access_log{};
  Fd access_log_previous{};
  Io io = Io::kBest;
  Times times{};
};

class Edge {
 public:
  // `metrics` must outlive this.
  Edge(Options options, Executor executor, Metrics& metrics);
  ~Edge();
  Edge(const Edge&) = delete;
  Edge& operator=(const Edge&) = delete;

  // kUnavailable: no loop can be made. Serves as soon as it returns, unless it takes over.
  Result<void> start();
  // Returns when it serves.
  Async<> serving();
  // To another edge that listens on the same sockets: accepts no more, and tells clients to connect
  // anew, with their next answer (HTTP/1) or at once (HTTP/2); returns when the last connection has
  // ended, which may be as long as the longest tunnel. Cut it short with stop().
  Async<> hand_over();
  // Accepts no more, tells clients to close, and waits up to `grace` for what runs; then cuts it
  // off.
  Async<> stop(Duration grace);

  // A table as it comes down the link. Older versions than the last are ignored.
  void apply(const link::RouteTable& table);
  // All certificates that control has for this edge; connections from now on are shown these.
  void apply(link::CertificateTable table);
  // Reads the certificates again now; connections from the next ones on have them.
  Async<> reload_certificates();
  // What goes up the link.
  link::EdgeReport report();
  // "io_uring" or "epoll".
  std::string io_name() const;
  // Bytes and buffers, for tests of bounds: the most that was queued to one client, and buffers in
  // use now.
  struct Usage {
    uint64_t queued_peak_bytes = 0;
    uint64_t buffers = 0;
    uint64_t connections = 0;
    uint64_t upstream_connections = 0;
    uint64_t upstream_opened = 0;
    uint64_t upstream_reused = 0;
  };
  Usage usage() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace hob::edge
