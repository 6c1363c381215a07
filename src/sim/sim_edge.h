// An edge without sockets: the real route book, queues of each loop (edge/queueing.h) and awake
// controller, links to control and hosts as edge::Edge keeps them, and requests that take virtual
// time.
//
// What a real worker does with bytes is not here.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/async.h"
#include "edge/awake_controller.h"
#include "edge/queueing.h"
#include "edge/routes.h"
#include "link/link.h"
#include "sim/seeded_random.h"

namespace hob::sim {

enum class Served { kAnswered, kRefused, kCut };
enum class Visit { kAnswered, kUnknownHost, kPaused, kNoTarget, kFailed };

// What a visitor keeps of a service that is sticky.
struct Cookie {
  std::string version{};
  std::string target{};
  int64_t until_us = 0;
};

// What a visitor asks for.
struct Ask {
  std::string host_name{};
  Duration service_time{};
  bool idempotent = true;
  std::shared_ptr<Cookie> cookie{};
};

// What is around an edge.
struct EdgePorts {
  std::function<Async<Result<std::shared_ptr<link::Session>>>()> control{};
  std::function<Async<Result<std::shared_ptr<link::Session>>>(std::string host)> host{};
  std::vector<std::string> hosts{};
  // Which host was seen to have it; nullopt: none.
  std::function<std::optional<std::string>(const TaskId&)> host_of{};
  // A request reaches the task's address.
  std::function<Async<Served>(TaskId task, std::string address, Duration service_time)> request{};
  // It waited for a place as long as it may, while these were all it could have had; those that are
  // ejected get nothing for a while.
  struct Place {
    std::shared_ptr<edge::SharedTarget> target{};
    bool ejected = false;
  };
  std::function<void(const std::vector<Place>& places, int limit)> waited_in_vain{};
  // It went to another target than its client's own, which was there to be used.
  std::function<void(const TaskId& own, const TaskId& other)> strayed{};
};

// What an edge has on its own disk.
struct EdgeDisk {
  std::optional<link::RouteTable> table{};
};

class SimEdge {
 public:
  // unlinked_since_us: when a process of this edge had a link to control last.
  SimEdge(const Executor& executor, SeededRandom& random, EdgeId id, EdgeDisk& disk,
          int64_t unlinked_since_us, EdgePorts ports);
  void start();
  // Requests in flight are cut off.
  Async<> stop();
  // A visitor's request; `done` is not called if the edge dies first.
  void send(Ask ask, std::function<void(Visit)> done);
  // Bugs on purpose, as Mutation says.
  void lie() { lies_ = true; }
  void forget_answers() { forgets_answers_ = true; }
  void overfill() { overfills_ = true; }
  void stray() { strays_ = true; }

  const EdgeId& id() const { return id_; }
  const link::RouteTable& table() const { return table_; }
  bool linked() const { return session_ != nullptr; }
  bool holds_link_to(const std::string& host) const;
  // 0 while it has one.
  int64_t unlinked_since_us() const { return session_ ? 0 : unlinked_since_us_; }
  int64_t host_linked_since_us(const std::string& host) const;
  int in_flight() const { return in_flight_; }

 private:
  struct Request final : edge::QueuedRequest {
    explicit Request(const Executor& executor) : told(executor) {}
    using QueuedRequest::count_retry;
    using QueuedRequest::fail_open_;
    using QueuedRequest::failed_;
    using QueuedRequest::has_failed;
    using QueuedRequest::leave_pool;
    using QueuedRequest::pool_;
    using QueuedRequest::queued_us_;
    using QueuedRequest::rests_since_ms_;
    using QueuedRequest::service_;
    using QueuedRequest::sticky_;
    using QueuedRequest::target_;
    using QueuedRequest::unanswered_;
    Event told;
    std::optional<edge::Turn> turn{};  // that it was told
    std::shared_ptr<edge::Target> own{};
    uint64_t began_ms = 0;
    int limit = 0;  // its service's, when it came
  };
  struct HostLink {
    std::shared_ptr<link::Session> session{};
    int64_t since_us = 0;
  };

  Async<Visit> visit(Ask ask);
  Async<Visit> serve(edge::Queues& queues, Request& request, const Ask& ask);
  // Until it has a target, or gets none.
  Async<edge::Turn> placed(edge::Queues& queues, Request& request, edge::Turn turn);
  void check_waited(const Request& request) const;
  void check_own(const Request& request) const;
  std::unique_ptr<edge::Queues> make_loop(size_t index, size_t loops);
  // Of each loop, after this turn.
  void serve_queues(const std::string& service);
  Async<> keep_link();
  Async<> keep_host_link(std::string host);
  Async<> keep_reporting();
  void apply(const link::RouteTable& table);
  link::EdgeReport report();
  link::TargetHold part_of(const link::TargetHold& whole, const std::string& host) const;
  void tell_hosts(const link::TargetHold& change);

  Executor executor_;
  SeededRandom& random_;
  EdgeId id_;
  EdgeDisk& disk_;
  EdgePorts ports_;
  edge::RouteBook book_;
  std::vector<std::unique_ptr<edge::Queues>> loops_;
  std::shared_ptr<edge::AwakeController> awake_;
  link::RouteTable table_{};
  int64_t version_ = -1;
  std::map<std::string, link::ServiceLoad> told_;
  std::map<edge::RouteBook::PoolKey, int64_t> told_of_versions_;
  std::shared_ptr<link::Session> session_;
  int64_t unlinked_since_us_ = 0;
  std::map<std::string, HostLink> host_links_;
  int in_flight_ = 0;
  bool lies_ = false;
  bool forgets_answers_ = false;
  bool overfills_ = false;
  bool strays_ = false;
  int64_t said_version_ = 0;
  Event report_soon_;
  AsyncScope scope_;
};

}  // namespace hob::sim
