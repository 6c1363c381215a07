// What the loops of an edge share: which host names lead to which service and version, and each
// target's requests in flight.
//
// The main thread compiles each link::RouteTable into an immutable Routes and posts it to the
// loops. What outlives a table (counts, measurements) is in SharedTarget, SharedPool and
// SharedService, which tables refer to. A pool is the targets of one version of a service.
#pragma once

#include <netinet/in.h>

#include <array>
#include <atomic>
#include <chrono>
#include <climits>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "link/messages.h"

namespace hob::edge {

inline constexpr size_t kLoopsMax = 64;
inline constexpr int kConcurrencyMax = 1'000'000;  // of a target; what is above counts as this
inline constexpr int kWeightMax = 1'000'000;       // of a version; likewise
// Upper ends of the latency histogram's buckets, in seconds; the last is +Inf.
inline constexpr std::array<double, 12> kLatencyBuckets = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
                                                           0.1,   0.25,   0.5,   1,    5,     30};

// The loops' clock (CLOCK_MONOTONIC), on any thread.
inline uint64_t steady_now_us() {
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(
                                   std::chrono::steady_clock::now().time_since_epoch())
                                   .count());
}

// Written by one loop, read by any thread.
class LoopCount {
 public:
  void add(uint64_t n = 1) {
    value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }
  void subtract(uint64_t n = 1) { add(~n + 1); }
  uint64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_ = 0;
};

// The requests of one loop that are in flight, and the exact integral of their number over time.
//
// Written by one loop. The two are read together: a sequence number that is odd while they change,
// and another after, tell a reader to look again.
class InFlight {
 public:
  // Microseconds of steady time.
  void begin(uint64_t now_us) { change(uint64_t{0} - now_us, 1); }
  void end(uint64_t now_us) { change(now_us, ~uint64_t{0}); }
  uint64_t value() const { return number_.load(std::memory_order_relaxed); }
  struct Read {
    uint64_t number = 0;
    int64_t integral_us = 0;  // up to the `now_us` asked for; a loop's turn may lie a little ahead
  };
  Read read(uint64_t now_us) const;

 private:
  void change(uint64_t moments, uint64_t number) {
    const uint64_t sequence = sequence_.load(std::memory_order_relaxed);
    sequence_.store(sequence + 1, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_release);
    moments_us_.store(moments_us_.load(std::memory_order_relaxed) + moments,
                      std::memory_order_relaxed);
    number_.store(number_.load(std::memory_order_relaxed) + number, std::memory_order_relaxed);
    sequence_.store(sequence + 2, std::memory_order_release);
  }
  std::atomic<uint64_t> sequence_ = 0;
  std::atomic<uint64_t> number_ = 0;
  // The ends of those that ended less the beginnings of all: with the number in flight times now,
  // the integral.
  std::atomic<uint64_t> moments_us_ = 0;
};

// One loop's measurements of one service, on cache lines of their own.
struct alignas(64) ServiceCounts {
  std::array<LoopCount, 6> by_class{};  // 1: 1xx … 5: 5xx; 0: the client left before an answer
  std::array<LoopCount, kLatencyBuckets.size() + 1> latency{};
  LoopCount latency_us{};
  LoopCount service_us{};  // latency_us without what was spent in the queue
  InFlight in_flight{};
  LoopCount queued{};
  LoopCount queued_us{};
  LoopCount refused{};  // answered 503 or 504 by the edge itself
  LoopCount retries{};
  LoopCount retries_put_off{};  // for want of budget
  LoopCount ejections{};
  LoopCount received_bytes{};
  LoopCount sent_bytes{};
};

// One loop's measurements of one version of a service.
struct alignas(64) PoolCounts {
  InFlight in_flight{};  // those that wait for a target of it among them
  LoopCount queued{};
  LoopCount requests{};  // ended ones that were given to a target of it
  LoopCount failures{};  // of those, answered 5xx by the target, or not at all
};

struct SharedService {
  std::string id{};
  std::vector<std::unique_ptr<ServiceCounts>> loops{};  // one each
  std::atomic<uint64_t> waiting_loops = 0;  // a bit for each loop with requests in a queue of it
  // Written by AwakeController, for the metrics.
  std::atomic<uint64_t> wakes = 0;    // asked for
  std::atomic<uint64_t> woken = 0;    // answered
  std::atomic<uint64_t> wake_us = 0;  // from the one to the other
};

struct SharedPool {
  std::string token{};  // names it in sticky cookies
  std::shared_ptr<SharedService> service{};
  std::string version{};                             // empty: of a service that has only one
  std::vector<std::unique_ptr<PoolCounts>> loops{};  // one each
  // Between the loops and AwakeController: a loop has asked it to look, and it has not yet;
  // requests wait that no sleeping target can be woken for; a target with so many requests should
  // be told about while others sleep (INT_MAX: none does).
  std::atomic<bool> asked = false;
  std::atomic<bool> short_of_targets = false;
  std::atomic<int> signal_at = INT_MAX;
  // Written by AwakeController, for the metrics.
  std::atomic<uint64_t> targets_awake = 0;
  std::atomic<uint64_t> targets_asleep = 0;
};

struct SharedTarget {
  // More than any target takes: what is added while it may not be sent anything.
  static constexpr int kClosed = 1 << 30;

  TaskId task{};
  std::string token{};  // names it in sticky cookies
  sockaddr_in address{};
  std::atomic<int> wanted = 0;  // requests that wait for it and no other
  // Requests in flight, and kClosed. One word, so that a loop that takes a place learns in the same
  // step whether the target may be used, and whoever closes it whether anything is in flight.
  std::atomic<int> load = 0;
  std::atomic<bool> draining = false;
  std::atomic<bool> failing = false;  // its last request failed at the gateway, on some loop

  int in_flight() const { return load.load(std::memory_order_seq_cst) & (kClosed - 1); }
  bool closed() const { return load.load(std::memory_order_seq_cst) >= kClosed; }
  // Once each, in turn.
  void close() { load.fetch_add(kClosed, std::memory_order_seq_cst); }
  void open() { load.fetch_sub(kClosed, std::memory_order_seq_cst); }
};

// How a version's requests are served (link::RequestSettings).
struct PoolSettings {
  link::TargetProtocol protocol = link::TargetProtocol::kHttp1;
  uint64_t request_timeout_ms = 0;  // 0: none
  uint64_t idle_timeout_ms = 0;     // 0: none
  uint64_t sticky_seconds = 0;      // 0: not sticky
};

struct PoolRoute {
  std::shared_ptr<SharedPool> pool{};
  PoolSettings settings{};
  int share = 0;  // of requests to the service's names, of the sum of all shares
  std::vector<std::string> host_names{};                 // its own
  int awake_min = -1;                                    // -1: all are awake
  std::vector<std::shared_ptr<SharedTarget>> targets{};  // those that take new requests
  size_t near = 0;                                       // the first of them are in the edge's zone
};

struct ServiceRoute {
  std::shared_ptr<SharedService> service{};
  std::string name{};
  std::vector<std::string> host_names{};
  link::RouteState state = link::RouteState::kServing;
  int max_concurrency = 100;  // 1..kConcurrencyMax
  uint64_t queue_timeout_ms = 0;
  uint64_t sleep_after_ms = 0;
  std::vector<PoolRoute> pools{};  // at least one
};

struct Routes {
  int64_t version = 0;
  std::vector<ServiceRoute> services{};
};

// Compiles tables, on the main thread. Keeps the shared state of what the last table names.
class RouteBook {
 public:
  // `zone`: the edge's; empty: not known.
  explicit RouteBook(size_t loops, std::string zone = {}) : loops_(loops), zone_(std::move(zone)) {}
  // A target whose address is not an IPv4 address with a port is left out and logged, and so is one
  // of a version that its route does not name.
  std::shared_ptr<const Routes> compile(const link::RouteTable& table);
  const std::map<std::string, std::shared_ptr<SharedService>>& services() const {
    return services_;
  }
  size_t loops() const { return loops_; }
  using PoolKey = std::pair<std::string, std::string>;  // service's id, version
  const std::map<PoolKey, std::shared_ptr<SharedPool>>& pools() const { return pools_; }
  const std::map<std::string, std::shared_ptr<SharedTarget>>& targets() const { return targets_; }

 private:
  struct Next;
  std::shared_ptr<SharedService> service_of(const link::Route& route, Next& next) const;
  std::shared_ptr<SharedPool> pool_of(const std::shared_ptr<SharedService>& service,
                                      const std::string& version, Next& next) const;
  // nullptr: it has no usable address.
  std::shared_ptr<SharedTarget> target_of(const SharedService& service, const link::Target& target,
                                          Next& next) const;

  size_t loops_;
  std::string zone_;
  std::map<std::string, std::shared_ptr<SharedService>> services_;  // by id
  std::map<PoolKey, std::shared_ptr<SharedPool>> pools_;
  std::map<std::string, std::shared_ptr<SharedTarget>> targets_;  // by "task address port"
  // That no table names any more, while they have requests: one that comes back has those still.
  std::map<std::string, std::shared_ptr<SharedTarget>> left_;
};

}  // namespace hob::edge
