// What the loops of an edge share: which host names lead to which service, and each target's
// requests in flight.
//
// The main thread compiles each link::RouteTable into an immutable Routes and posts it to the
// loops. What outlives a table (counts, measurements) is in SharedTarget and SharedService, which
// tables refer to.
#pragma once

#include <netinet/in.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "link/messages.h"

namespace hob::edge {

inline constexpr size_t kLoopsMax = 64;
// Upper ends of the latency histogram's buckets, in seconds; the last is +Inf.
inline constexpr std::array<double, 12> kLatencyBuckets = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
                                                           0.1,   0.25,   0.5,   1,    5,     30};

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

// One loop's measurements of one service, on cache lines of their own.
struct alignas(64) ServiceCounts {
  std::array<LoopCount, 6> by_class{};  // 1: 1xx … 5: 5xx; 0: the client left before an answer
  std::array<LoopCount, kLatencyBuckets.size() + 1> latency{};
  LoopCount latency_us{};
  LoopCount in_flight{};
  LoopCount queued{};
  LoopCount queued_us{};
  LoopCount refused{};  // answered 503 or 504 by the edge itself
  LoopCount retries{};
  LoopCount ejections{};
  LoopCount received_bytes{};
  LoopCount sent_bytes{};
};

struct SharedService {
  std::string id{};
  std::vector<std::unique_ptr<ServiceCounts>> loops{};  // one each
  std::atomic<uint64_t> waiting_loops = 0;  // a bit for each loop with requests in its queue
};

struct SharedTarget {
  TaskId task{};
  sockaddr_in address{};
  std::atomic<int> in_flight = 0;
  std::atomic<bool> draining = false;
};

struct ServiceRoute {
  std::shared_ptr<SharedService> service{};
  std::string name{};
  std::vector<std::string> host_names{};
  link::RouteState state = link::RouteState::kServing;
  int max_concurrency = 100;
  uint64_t request_timeout_ms = 0;                       // 0: none
  uint64_t idle_timeout_ms = 0;                          // 0: none
  std::vector<std::shared_ptr<SharedTarget>> targets{};  // those that take new requests
};

struct Routes {
  int64_t version = 0;
  std::vector<ServiceRoute> services{};
};

// Compiles tables, on the main thread. Keeps the shared state of what the last table names.
class RouteBook {
 public:
  explicit RouteBook(size_t loops) : loops_(loops) {}
  // A target whose address is not an IPv4 address with a port is left out and logged.
  std::shared_ptr<const Routes> compile(const link::RouteTable& table);
  const std::map<std::string, std::shared_ptr<SharedService>>& services() const {
    return services_;
  }
  const std::map<std::string, std::shared_ptr<SharedTarget>>& targets() const { return targets_; }

 private:
  size_t loops_;
  std::map<std::string, std::shared_ptr<SharedService>> services_;  // by id
  std::map<std::string, std::shared_ptr<SharedTarget>> targets_;    // by "task address port"
};

}  // namespace hob::edge
