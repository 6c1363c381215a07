// An edge without sockets: the real route book, balancer and awake controller, links to control and
// hosts as edge::Edge keeps them, and requests that take virtual time.
//
// One loop of requests. What a real worker does with bytes is not here; what it decides is.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/async.h"
#include "edge/awake_controller.h"
#include "edge/balancer.h"
#include "edge/routes.h"
#include "link/link.h"
#include "sim/seeded_random.h"

namespace hob::sim {

enum class Served { kAnswered, kRefused, kCut };
enum class Visit { kAnswered, kUnknownHost, kPaused, kNoTarget, kFailed };

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
  void send(std::string host_name, Duration service_time, std::function<void(Visit)> done);
  // Bugs on purpose: it says that it applies tables before it does; it does not hear hosts'
  // answers.
  void lie() { lies_ = true; }
  void forget_answers() { forgets_answers_ = true; }

  const EdgeId& id() const { return id_; }
  const link::RouteTable& table() const { return table_; }
  bool linked() const { return session_ != nullptr; }
  bool holds_link_to(const std::string& host) const;
  // 0 while it has one.
  int64_t unlinked_since_us() const { return session_ ? 0 : unlinked_since_us_; }
  int64_t host_linked_since_us(const std::string& host) const;
  int in_flight() const { return in_flight_; }

 private:
  struct Waiter {
    explicit Waiter(const Executor& executor) : placed(executor) {}
    Event placed;
    std::vector<edge::SharedTarget*> failed{};
    std::shared_ptr<edge::SharedTarget> target{};
    bool fail_open = false;
  };
  struct Service;
  struct Pool {
    edge::PoolRoute route{};
    std::weak_ptr<Service> service{};
    std::map<std::string, edge::Ejection> ejections{};  // by task
    std::deque<std::shared_ptr<Waiter>> waiting{};
    bool listed = true;
    edge::PoolCounts& counts() { return *route.pool->loops[0]; }
  };
  struct Service {
    edge::ServiceRoute route{};
    std::vector<std::shared_ptr<Pool>> pools{};
    edge::ServiceCounts& counts() { return *route.service->loops[0]; }
  };
  struct Way {  // where a host name leads
    std::shared_ptr<Service> service{};
    std::shared_ptr<Pool> pool{};  // nullptr: by weight
  };
  struct HostLink {
    std::shared_ptr<link::Session> session{};
    int64_t since_us = 0;
  };

  Async<Visit> visit(std::string host_name, Duration service_time);
  Async<> keep_link();
  Async<> keep_host_link(std::string host);
  Async<> keep_reporting();
  void apply(const link::RouteTable& table);
  link::EdgeReport report();
  link::TargetHold part_of(const link::TargetHold& whole, const std::string& host) const;
  void tell_hosts(const link::TargetHold& change);
  std::shared_ptr<Pool> choose(const Service& service);
  std::shared_ptr<edge::SharedTarget> try_target(const Service& service, Pool& pool,
                                                 const std::vector<edge::SharedTarget*>& failed,
                                                 bool fail_open);
  void ask(Pool& pool);
  void serve_waiting(const std::string& service);
  void serve_waiting(const Service& service, Pool& pool);
  void release(const Service& service, Pool& pool, edge::SharedTarget& target);
  static void set_waiting_bit(Service& service);
  void gateway_failed(Pool& pool, edge::SharedTarget& target);
  Async<std::shared_ptr<edge::SharedTarget>> place(std::shared_ptr<Service> service,
                                                   std::shared_ptr<Pool> pool,
                                                   std::vector<edge::SharedTarget*> failed);
  Async<Visit> serve(std::shared_ptr<Service> service, std::shared_ptr<Pool> pool,
                     Duration service_time);

  Executor executor_;
  SeededRandom& random_;
  EdgeId id_;
  EdgeDisk& disk_;
  EdgePorts ports_;
  edge::RouteBook book_{1};
  std::shared_ptr<edge::AwakeController> awake_;
  link::RouteTable table_{};
  int64_t version_ = -1;
  std::map<std::string, std::shared_ptr<Service>> services_;  // by id
  std::map<std::string, Way> by_host_;
  std::map<std::string, link::ServiceLoad> told_;
  std::map<edge::RouteBook::PoolKey, int64_t> told_of_versions_;
  std::shared_ptr<link::Session> session_;
  int64_t unlinked_since_us_ = 0;
  std::map<std::string, HostLink> host_links_;
  int in_flight_ = 0;
  bool lies_ = false;
  bool forgets_answers_ = false;
  int64_t said_version_ = 0;
  Event report_soon_;
  AsyncScope scope_;
};

}  // namespace hob::sim
