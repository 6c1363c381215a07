// Keeps those targets awake that an edge needs: a view of each pool for decide_awake, and what it
// says carried out: targets opened and closed for the loops, holds told to the host.
//
// On the main thread. A target that is not kAwake is closed (SharedTarget::close): loops give it
// nothing. Targets of a pool of which none sleeps are used at once, and held so that one which
// slept under other settings wakes. All targets are on one host for now; which host has a target
// would decide whom to tell.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/async.h"
#include "edge/awake_decision.h"
#include "edge/routes.h"
#include "link/messages.h"

namespace hob::edge {

class AwakeController {
 public:
  struct Calls {
    // Empty: there is no host to ask. Every target is awake, none ever sleeps.
    std::function<void(const link::TargetHold&)> tell_host{};
    std::function<void(SharedService&)> serve_queues{};
    std::function<void(std::shared_ptr<SharedTarget>)> close_idle{};
    std::function<void()> report_soon{};  // short_of_targets of a pool has changed
  };
  AwakeController(const Executor& executor, Calls calls);

  // Before the loops are given `routes`.
  void update(const Routes& routes, const RouteBook& book);
  // A loop asks to look at a pool.
  void asked(const std::shared_ptr<SharedPool>& pool);
  void answered(const link::TargetsAwake& answer);
  // What a host is told at first: all that is held, and what may sleep.
  link::TargetHold whole() const;
  // Looks again at pools whose load may have fallen.
  Async<> run();

 private:
  struct Task {
    std::shared_ptr<SharedPool> pool{};
    // One; more while requests to an address from an earlier table are in flight.
    std::vector<std::shared_ptr<SharedTarget>> targets{};
    Phase phase = Phase::kAsleep;
    uint64_t since = 0;
    uint64_t retry_at = 0;
    uint64_t held_at_us = 0;
    bool listed = true;
    int in_flight() const;
    bool failing() const;
    bool asked_for() const;
  };
  struct Pool {
    std::shared_ptr<SharedPool> shared{};
    std::vector<TaskId> order{};
    double share = 0;  // of the service's requests
    int max_concurrency = 1;
    int awake_min = -1;
    uint64_t sleep_after = 0;
    int64_t integral_us = 0;  // of requests in flight, as of looked_at_us
    uint64_t looked_at_us = 0;
    double demand = 0;
    Peak peak{};
    Peak recent{};
    std::optional<uint64_t> again{};
    bool listed = true;
  };

  void update_pools(const ServiceRoute& route, uint64_t now, link::TargetHold& fresh);
  // nullptr: it is in no table any more.
  Pool* find(const SharedPool& shared);
  void decide(Pool& pool);
  void note_short(Pool& pool, bool short_of_targets);
  // Of all pools of a service, now.
  double load_of(const SharedService& service) const;
  void enter(Task& task, Phase phase, uint64_t now);
  // Ends the holds of tasks that are in no table any more and have no request in flight.
  void let_leave();
  void tell(const link::TargetHold& change);

  Calls calls_;
  Event earlier_;  // some pool wants to be looked at before run() would
  // Not by address: what is decided first must not hang on it.
  std::map<RouteBook::PoolKey, Pool> pools_;
  std::map<TaskId, Task> tasks_;
  size_t leaving_ = 0;  // tasks that are not listed
  uint64_t next_look_ = ~uint64_t{0};
  // Targets of the first table may have slept for long: they are left as they are. One that comes
  // later has just started: it is held, and let go as any other that is not needed.
  bool first_table_ = true;
};

}  // namespace hob::edge
