#include "edge/awake_controller.h"

#include <algorithm>
#include <set>

#include "base/log.h"
#include "edge/measurements.h"

namespace hob::edge {
namespace {

// Shorter spans say nothing of a load.
constexpr uint64_t kDemandSpanMinUs = 5'000;

uint64_t now_ms() { return steady_now_us() / 1'000; }

RouteBook::PoolKey key_of(const SharedPool& pool) { return {pool.service->id, pool.version}; }

}  // namespace

AwakeController::AwakeController(const Executor& executor, Calls calls)
    : calls_(std::move(calls)), earlier_(executor) {}

int AwakeController::Task::in_flight() const {
  int sum = 0;
  for (const auto& target : targets) sum += target->in_flight();
  return sum;
}

bool AwakeController::Task::failing() const {
  return std::any_of(targets.begin(), targets.end(), [](const auto& target) {
    return target->failing.load(std::memory_order_relaxed);
  });
}

bool AwakeController::Task::asked_for() const {
  return std::any_of(targets.begin(), targets.end(), [](const auto& target) {
    return target->wanted.load(std::memory_order_seq_cst) > 0;
  });
}

void AwakeController::enter(Task& task, Phase phase, uint64_t now) {
  const bool was_open = task.phase == Phase::kAwake;
  const bool open = phase == Phase::kAwake;
  for (const auto& target : task.targets) {
    if (open && !was_open) target->open();
    if (!open && was_open) target->close();
    // It is as good as new: who wakes it will see.
    if (phase == Phase::kAsleep || phase == Phase::kWaking)
      target->failing.store(false, std::memory_order_relaxed);
    if (phase == Phase::kAsleep) calls_.close_idle(target);
  }
  task.phase = phase;
  task.since = now;
}

double AwakeController::load_of(const SharedService& service) const {
  double load = 0;
  for (const auto& [key, pool] : pools_) {
    if (pool.shared->service.get() == &service)
      load += std::max(pool.demand, static_cast<double>(sum_of(*pool.shared).in_flight));
  }
  return load;
}

void AwakeController::update_pools(const ServiceRoute& route, uint64_t now,
                                   link::TargetHold& fresh) {
  const double load = load_of(*route.service);
  double shares = 0;
  for (const PoolRoute& from : route.pools) shares += from.share;
  for (const PoolRoute& from : route.pools) {
    Pool& pool = pools_[key_of(*from.pool)];
    if (pool.shared != from.pool || pool.sleep_after != route.sleep_after_ms) {
      pool = {.shared = from.pool, .share = pool.share};
      pool.looked_at_us = steady_now_us();
      pool.integral_us = sum_of(*from.pool).in_flight_us;
    }
    pool.listed = true;
    pool.max_concurrency = route.max_concurrency;
    pool.awake_min = calls_.tell_host ? from.awake_min : -1;
    pool.sleep_after = route.sleep_after_ms;
    // What the other versions carry now comes here: awake before its requests ask for it.
    const double share = from.share / shares;
    if (share > pool.share) pool.peak.note(load * share, now, pool.sleep_after);
    pool.share = share;
    // Of two routes of one service the last one's targets hold, as for the loops.
    pool.order.clear();
    for (const auto& target : from.targets) {
      const auto [found, is_fresh] = tasks_.try_emplace(target->task);
      Task& task = found->second;
      if (is_fresh) {
        task.phase = pool.awake_min < 0 ? Phase::kAwake
                     : first_table_     ? Phase::kAsleep
                                        : Phase::kWaking;
        task.held_at_us = steady_now_us();
        (task.phase == Phase::kAsleep ? fresh.release : fresh.hold).push_back(target->task);
      }
      // A pool that is new has no past to judge its targets by.
      if (task.pool != from.pool) task.since = now;
      if (std::find(task.targets.begin(), task.targets.end(), target) == task.targets.end()) {
        if (task.phase != Phase::kAwake) target->close();
        task.targets.push_back(target);
      }
      task.pool = from.pool;
      task.listed = true;
      pool.order.push_back(target->task);
    }
    std::sort(pool.order.begin(), pool.order.end());
    pool.order.erase(std::unique(pool.order.begin(), pool.order.end()), pool.order.end());
  }
}

void AwakeController::update(const Routes& routes, const RouteBook& book) {
  const uint64_t now = now_ms();
  for (auto& [key, pool] : pools_) pool.listed = false;
  for (auto& [id, task] : tasks_) task.listed = false;
  std::set<const SharedTarget*> in_table;
  link::TargetHold fresh;
  for (const ServiceRoute& route : routes.services) update_pools(route, now, fresh);
  for (const auto& [key, target] : book.targets()) {
    in_table.insert(target.get());
    // Its last requests need it awake; it is let go when control takes it off the table.
    if (const auto found = tasks_.find(target->task);
        found != tasks_.end() && target->draining.load(std::memory_order_relaxed))
      found->second.listed = true;
  }
  for (auto& [id, task] : tasks_) {
    std::erase_if(task.targets, [&](const auto& target) {
      return task.listed && !in_table.contains(target.get()) && target->in_flight() == 0;
    });
  }
  std::erase_if(pools_, [](const auto& entry) { return !entry.second.listed; });
  if (!fresh.hold.empty() || !fresh.release.empty()) tell(fresh);
  first_table_ = false;
  let_leave();
  for (auto& [key, pool] : pools_) decide(pool);
}

void AwakeController::let_leave() {
  leaving_ = 0;
  link::TargetHold change;
  for (auto it = tasks_.begin(); it != tasks_.end();) {
    Task& task = it->second;
    if (task.listed) {
      ++it;
      continue;
    }
    // Without a host nobody is told, and nothing closed.
    if (calls_.tell_host && task.phase == Phase::kAwake) enter(task, Phase::kReleasing, now_ms());
    if (calls_.tell_host && task.phase == Phase::kReleasing && task.in_flight() > 0) {
      ++leaving_;
      ++it;
      continue;
    }
    if (task.phase != Phase::kAsleep) change.release.push_back(it->first);
    it = tasks_.erase(it);
  }
  if (!change.release.empty()) tell(change);
}

void AwakeController::asked(const std::shared_ptr<SharedPool>& pool) {
  // Before anything is read: who asks after this is heard again.
  pool->asked.exchange(false, std::memory_order_acq_rel);
  if (leaving_ > 0) let_leave();
  if (Pool* const known = find(*pool)) decide(*known);
}

AwakeController::Pool* AwakeController::find(const SharedPool& shared) {
  const auto found = pools_.find(key_of(shared));
  return found == pools_.end() || found->second.shared.get() != &shared ? nullptr : &found->second;
}

void AwakeController::decide(Pool& pool) {
  const uint64_t now_us = steady_now_us();
  const uint64_t now = now_us / 1'000;
  const PoolSum sum = sum_of(*pool.shared);
  if (now_us >= pool.looked_at_us + kDemandSpanMinUs) {
    pool.demand = std::max(0.0, static_cast<double>(sum.in_flight_us - pool.integral_us) /
                                    static_cast<double>(now_us - pool.looked_at_us));
    pool.integral_us = sum.in_flight_us;
    pool.looked_at_us = now_us;
  }
  AwakeView view{.waiting = static_cast<int>(sum.queued),
                 .max_concurrency = pool.max_concurrency,
                 .awake_min = pool.awake_min,
                 .sleep_after = pool.sleep_after,
                 .demand = pool.demand};
  double in_flight = view.waiting;
  for (const TaskId& id : pool.order) {
    const Task& task = tasks_.at(id);
    view.targets.push_back({.phase = task.phase,
                            .in_flight = task.in_flight(),
                            .asked_for = task.asked_for(),
                            .failing = task.failing(),
                            .since = task.since,
                            .retry_at = task.retry_at});
    in_flight += view.targets.back().in_flight;
  }
  const uint64_t surplus_span = surplus_after(pool.sleep_after);
  pool.peak.note(std::max(pool.demand, in_flight), now, pool.sleep_after);
  pool.recent.note(std::max(pool.demand, in_flight), now, surplus_span);
  view.peak = pool.peak.value(now, pool.sleep_after);
  view.recent = pool.recent.value(now, surplus_span);
  const AwakeActions actions = decide_awake(view, now);

  link::TargetHold change;
  for (const size_t i : actions.hold) {
    Task& task = tasks_.at(pool.order[i]);
    enter(task, Phase::kWaking, now);
    task.held_at_us = now_us;
    pool.shared->service->wakes.fetch_add(1, std::memory_order_relaxed);
    change.hold.push_back(pool.order[i]);
  }
  const auto release = [&](size_t i) {
    enter(tasks_.at(pool.order[i]), Phase::kAsleep, now);
    change.release.push_back(pool.order[i]);
  };
  for (const size_t i : actions.let_go) {
    Task& task = tasks_.at(pool.order[i]);
    enter(task, Phase::kReleasing, now);
    // Closed first: nothing can be added to what is seen now.
    if (task.in_flight() == 0) release(i);
  }
  for (const size_t i : actions.release) release(i);
  for (const size_t i : actions.keep) enter(tasks_.at(pool.order[i]), Phase::kAwake, now);
  if (!change.hold.empty() || !change.release.empty()) tell(change);
  if (!actions.keep.empty()) calls_.serve_queues(*pool.shared->service);

  uint64_t awake = 0;
  for (const TaskId& id : pool.order) {
    const Phase phase = tasks_.at(id).phase;
    if (phase == Phase::kAwake || phase == Phase::kReleasing) ++awake;
  }
  pool.shared->targets_awake.store(awake, std::memory_order_relaxed);
  pool.shared->targets_asleep.store(pool.order.size() - awake, std::memory_order_relaxed);
  pool.shared->signal_at.store(actions.signal_at, std::memory_order_relaxed);
  pool.again = actions.again;
  if (pool.again && *pool.again < next_look_) {
    next_look_ = *pool.again;
    earlier_.set();
  }
  note_short(pool, actions.short_of_targets);
}

void AwakeController::note_short(Pool& pool, bool short_of_targets) {
  SharedPool& shared = *pool.shared;
  if (shared.short_of_targets.load(std::memory_order_relaxed) == short_of_targets) return;
  shared.short_of_targets.store(short_of_targets, std::memory_order_seq_cst);
  calls_.report_soon();
  if (short_of_targets) calls_.serve_queues(*shared.service);  // other versions may have places
  // A loop that looked at the flag just before would not have asked: its queue has begun, or ended,
  // since the decision.
  const bool waiting = shared.service->waiting_loops.load(std::memory_order_seq_cst) != 0;
  if (waiting != short_of_targets) {
    pool.again = now_ms();
    next_look_ = std::min(next_look_, *pool.again);
    earlier_.set();
  }
}

void AwakeController::answered(const link::TargetsAwake& answer) {
  const uint64_t now_us = steady_now_us();
  std::map<RouteBook::PoolKey, Pool*> changed;
  for (const TaskId& id : answer.awake) {
    const auto found = tasks_.find(id);
    if (found == tasks_.end() || found->second.phase != Phase::kWaking) continue;
    Task& task = found->second;
    task.retry_at = 0;
    enter(task, Phase::kAwake, now_us / 1'000);
    if (Pool* const pool = find(*task.pool)) {
      SharedService& service = *task.pool->service;
      service.wake_us.fetch_add(now_us - task.held_at_us, std::memory_order_relaxed);
      service.woken.fetch_add(1, std::memory_order_relaxed);
      changed.emplace(key_of(*task.pool), pool);
    }
  }
  for (const auto& [key, pool] : changed) calls_.serve_queues(*pool->shared->service);
  for (const TaskId& id : answer.unknown) {
    const auto found = tasks_.find(id);
    if (found == tasks_.end() || found->second.phase == Phase::kAsleep) continue;
    Task& task = found->second;
    Pool* const pool = find(*task.pool);
    // Of a pool of which none sleeps, control's word that it is ready is enough.
    if (pool == nullptr || (pool->awake_min < 0 && task.phase == Phase::kAwake)) continue;
    if (task.retry_at == 0)
      log::warn("a target's host does not know it",
                {{"task", id.value}, {"service", task.pool->service->id}});
    enter(task, Phase::kAsleep, now_us / 1'000);
    task.retry_at = now_us / 1'000 + kUnknownRetry;
    changed.emplace(key_of(*task.pool), pool);
  }
  for (const auto& [key, pool] : changed) decide(*pool);
}

link::TargetHold AwakeController::whole() const {
  link::TargetHold whole;
  for (const auto& [id, task] : tasks_)
    (task.phase == Phase::kAsleep ? whole.release : whole.hold).push_back(id);
  return whole;
}

void AwakeController::tell(const link::TargetHold& change) {
  if (calls_.tell_host) calls_.tell_host(change);
}

Async<> AwakeController::run() {
  for (;;) {
    next_look_ = ~uint64_t{0};
    for (const auto& [key, pool] : pools_) {
      if (pool.again) next_look_ = std::min(next_look_, *pool.again);
    }
    const uint64_t now = now_ms();
    if (next_look_ == ~uint64_t{0}) {
      co_await earlier_.wait();
    } else if (next_look_ > now) {
      co_await earlier_.wait_for(Duration(static_cast<int64_t>(next_look_ - now)));
    }
    earlier_.reset();
    for (auto& [key, pool] : pools_) {
      if (pool.again && *pool.again <= now_ms()) decide(pool);
    }
  }
}

}  // namespace hob::edge
