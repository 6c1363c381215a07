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

void AwakeController::update(const Routes& routes, const RouteBook& book) {
  const uint64_t now = now_ms();
  for (auto& [id, service] : services_) service.listed = false;
  for (auto& [id, task] : tasks_) task.listed = false;
  std::set<const SharedTarget*> in_table;
  link::TargetHold fresh;
  for (const ServiceRoute& route : routes.services) {
    Service& service = services_[route.service->id];
    if (service.shared != route.service || service.sleep_after != route.sleep_after_ms) {
      service = {.shared = route.service};
      service.looked_at_us = steady_now_us();
      service.integral_us = sum_of(*route.service).in_flight_us;
    }
    service.listed = true;
    service.max_concurrency = route.max_concurrency;
    service.awake_min = calls_.tell_host ? route.awake_min : -1;
    service.sleep_after = route.sleep_after_ms;
    // Of two routes of one service the last one's targets hold, as for the loops.
    service.order.clear();
    for (const auto& target : route.targets) {
      const auto [found, is_fresh] = tasks_.try_emplace(target->task);
      Task& task = found->second;
      if (is_fresh) {
        task.phase = service.awake_min < 0 ? Phase::kAwake
                     : first_table_        ? Phase::kAsleep
                                           : Phase::kWaking;
        task.since = now;
        task.held_at_us = steady_now_us();
        (task.phase == Phase::kAsleep ? fresh.release : fresh.hold).push_back(target->task);
      }
      if (std::find(task.targets.begin(), task.targets.end(), target) == task.targets.end()) {
        if (task.phase != Phase::kAwake) target->close();
        task.targets.push_back(target);
      }
      task.service = route.service->id;
      task.listed = true;
      service.order.push_back(target->task);
    }
    std::sort(service.order.begin(), service.order.end());
    service.order.erase(std::unique(service.order.begin(), service.order.end()),
                        service.order.end());
  }
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
  std::erase_if(services_, [](const auto& entry) { return !entry.second.listed; });
  if (!fresh.hold.empty() || !fresh.release.empty()) tell(fresh);
  first_table_ = false;
  let_leave();
  for (auto& [id, service] : services_) decide(service);
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

void AwakeController::asked(const std::shared_ptr<SharedService>& service) {
  // Before anything is read: who asks after this is heard again.
  service->asked.exchange(false, std::memory_order_acq_rel);
  if (leaving_ > 0) let_leave();
  const auto found = services_.find(service->id);
  if (found != services_.end() && found->second.shared == service) decide(found->second);
}

void AwakeController::decide(Service& service) {
  const uint64_t now_us = steady_now_us();
  const uint64_t now = now_us / 1'000;
  const ServiceSum sum = sum_of(*service.shared);
  if (now_us >= service.looked_at_us + kDemandSpanMinUs) {
    service.demand = std::max(0.0, static_cast<double>(sum.in_flight_us - service.integral_us) /
                                       static_cast<double>(now_us - service.looked_at_us));
    service.integral_us = sum.in_flight_us;
    service.looked_at_us = now_us;
  }
  AwakeView view{.waiting = static_cast<int>(sum.queued),
                 .max_concurrency = service.max_concurrency,
                 .awake_min = service.awake_min,
                 .sleep_after = service.sleep_after,
                 .demand = service.demand};
  double in_flight = view.waiting;
  for (const TaskId& id : service.order) {
    const Task& task = tasks_.at(id);
    view.targets.push_back({.phase = task.phase,
                            .in_flight = task.in_flight(),
                            .failing = task.failing(),
                            .since = task.since,
                            .retry_at = task.retry_at});
    in_flight += view.targets.back().in_flight;
  }
  service.peak.note(std::max(service.demand, in_flight), now, service.sleep_after);
  view.peak = service.peak.value(now, service.sleep_after);
  const AwakeActions actions = decide_awake(view, now);

  link::TargetHold change;
  for (const size_t i : actions.hold) {
    Task& task = tasks_.at(service.order[i]);
    enter(task, Phase::kWaking, now);
    task.held_at_us = now_us;
    service.shared->wakes.fetch_add(1, std::memory_order_relaxed);
    change.hold.push_back(service.order[i]);
  }
  const auto release = [&](size_t i) {
    enter(tasks_.at(service.order[i]), Phase::kAsleep, now);
    change.release.push_back(service.order[i]);
  };
  for (const size_t i : actions.let_go) {
    Task& task = tasks_.at(service.order[i]);
    enter(task, Phase::kReleasing, now);
    // Closed first: nothing can be added to what is seen now.
    if (task.in_flight() == 0) release(i);
  }
  for (const size_t i : actions.release) release(i);
  for (const size_t i : actions.keep) enter(tasks_.at(service.order[i]), Phase::kAwake, now);
  if (!change.hold.empty() || !change.release.empty()) tell(change);
  if (!actions.keep.empty()) calls_.serve_queues(*service.shared);

  uint64_t awake = 0;
  for (const TaskId& id : service.order) {
    const Phase phase = tasks_.at(id).phase;
    if (phase == Phase::kAwake || phase == Phase::kReleasing) ++awake;
  }
  service.shared->targets_awake.store(awake, std::memory_order_relaxed);
  service.shared->targets_asleep.store(service.order.size() - awake, std::memory_order_relaxed);
  service.shared->signal_at.store(actions.signal_at, std::memory_order_relaxed);
  service.again = actions.again;
  if (service.again && *service.again < next_look_) {
    next_look_ = *service.again;
    earlier_.set();
  }
  note_short(service, actions.short_of_targets);
}

void AwakeController::note_short(Service& service, bool short_of_targets) {
  SharedService& shared = *service.shared;
  if (shared.short_of_targets.load(std::memory_order_relaxed) == short_of_targets) return;
  shared.short_of_targets.store(short_of_targets, std::memory_order_seq_cst);
  calls_.report_soon();
  // A loop that looked at the flag just before would not have asked: its queue has begun, or ended,
  // since the decision.
  const bool waiting = shared.waiting_loops.load(std::memory_order_seq_cst) != 0;
  if (waiting != short_of_targets) {
    service.again = now_ms();
    next_look_ = std::min(next_look_, *service.again);
    earlier_.set();
  }
}

void AwakeController::answered(const link::TargetsAwake& answer) {
  const uint64_t now_us = steady_now_us();
  std::set<std::string> changed;
  for (const TaskId& id : answer.awake) {
    const auto found = tasks_.find(id);
    if (found == tasks_.end() || found->second.phase != Phase::kWaking) continue;
    Task& task = found->second;
    task.retry_at = 0;
    enter(task, Phase::kAwake, now_us / 1'000);
    if (const auto service = services_.find(task.service); service != services_.end()) {
      service->second.shared->wake_us.fetch_add(now_us - task.held_at_us,
                                                std::memory_order_relaxed);
      service->second.shared->woken.fetch_add(1, std::memory_order_relaxed);
      changed.insert(task.service);
    }
  }
  for (const std::string& id : changed) calls_.serve_queues(*services_.at(id).shared);
  for (const TaskId& id : answer.unknown) {
    const auto found = tasks_.find(id);
    if (found == tasks_.end() || found->second.phase == Phase::kAsleep) continue;
    Task& task = found->second;
    const auto service = services_.find(task.service);
    // Of a service of which none sleeps, control's word that it is ready is enough.
    if (service == services_.end() ||
        (service->second.awake_min < 0 && task.phase == Phase::kAwake))
      continue;
    if (task.retry_at == 0)
      log::warn("a target's host does not know it",
                {{"task", id.value}, {"service", task.service}});
    enter(task, Phase::kAsleep, now_us / 1'000);
    task.retry_at = now_us / 1'000 + kUnknownRetry;
    changed.insert(task.service);
  }
  for (const std::string& id : changed) decide(services_.at(id));
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
    for (const auto& [id, service] : services_) {
      if (service.again) next_look_ = std::min(next_look_, *service.again);
    }
    const uint64_t now = now_ms();
    if (next_look_ == ~uint64_t{0}) {
      co_await earlier_.wait();
    } else if (next_look_ > now) {
      co_await earlier_.wait_for(Duration(static_cast<int64_t>(next_look_ - now)));
    }
    earlier_.reset();
    for (auto& [id, service] : services_) {
      if (service.again && *service.again <= now_ms()) decide(service);
    }
  }
}

}  // namespace hob::edge
