#include "edge/queueing.h"

#include <algorithm>
#include <climits>
#include <utility>

#include "base/assert.h"
#include "edge/limits.h"

namespace hob::edge {

void QueuedRequest::enter_pool(const std::shared_ptr<Pool>& pool, LoopTime now) {
  if (pool_ == pool) return;
  leave_pool(now);
  pool_ = pool;
  pool_->counts->in_flight.begin(now.us);
  set_deadline_of(*pool_);
}

void QueuedRequest::leave_pool(LoopTime now) {
  if (pool_ == nullptr) return;
  PoolCounts& counts = *pool_->counts;
  counts.in_flight.end(now.us);
  if (given_) counts.requests.add();
  if (given_ && unanswered_) counts.failures.add();
  given_ = unanswered_ = false;
  pool_.reset();
}

bool QueuedRequest::has_failed(const Target& target) const {
  return std::ranges::any_of(failed_, [&](const auto& failed) { return failed.get() == &target; });
}

void QueuedRequest::clear() {
  service_.reset();
  pool_.reset();
  target_.reset();
  sticky_.reset();
  std::fill(std::begin(failed_), std::end(failed_), nullptr);
  queued_us_ = rests_since_ms_ = 0;
  retries_ = 0;
  waiting_ = resting_ = pinned_ = given_ = unanswered_ = fail_open_ = false;
  losses_ = 0;
}

Queues::Queues(const Options& options, Calls calls)
    : loop_(options.loop),
      loops_(options.loops),
      failover_(options.failover),
      random_{options.random[0] | 1, options.random[1]},  // all zeros would stay zeros
      calls_(std::move(calls)) {}

// ---- choices ----

const std::shared_ptr<Pool>& Queues::choose_pool(const Service& service) {
  if (service.pools.size() == 1) return service.pools.front();
  return service.pools[pick_version(service.pools.size(), service.shares, random(),
                                    [&](size_t i) { return service.pools[i]->share; })];
}

void Queues::recall(QueuedRequest& request, const Destination& destination,
                    const StickyTokens& tokens) {
  if (tokens.target.empty()) return;
  for (const std::shared_ptr<Pool>& pool : destination.service->pools) {
    // A way by name is to that version alone; one without a share has no claim on its clients.
    if (destination.pool != nullptr ? pool != destination.pool : pool->share == 0) continue;
    if (pool->shared->token != tokens.version) continue;
    if (pool->settings.sticky_seconds == 0) return;
    const auto known = std::ranges::find_if(
        pool->targets, [&](const auto& target) { return target->shared->token == tokens.target; });
    request.prefer(pool, known != pool->targets.end() ? *known : nullptr);
    return;
  }
}

bool Queues::still_prefers(QueuedRequest& request, const Pool& pool, LoopTime now) {
  if (request.sticky_ == nullptr) return false;
  const bool usable = !request.fail_open_ && !request.sticky_->ejection.ejected(now.ms) &&
                      !request.has_failed(*request.sticky_) &&
                      std::ranges::find(pool.targets, request.sticky_) != pool.targets.end();
  if (!usable) {
    if (request.waiting_) request.sticky_->shared->wanted.fetch_sub(1, std::memory_order_seq_cst);
    request.sticky_.reset();
  }
  return usable;
}

bool Queues::try_target(QueuedRequest& request, const std::shared_ptr<Pool>& pool, LoopTime now) {
  Service& service = *request.service_;
  const auto& targets = pool->targets;
  const auto view = [&](size_t i) {
    const Target& target = *targets[i];
    const int load = target.shared->load.load(std::memory_order_seq_cst);
    return TargetView{
        .in_flight = load,
        .ejected = target.ejection.ejected(now.ms),
        .excluded =
            request.has_failed(target) || (request.fail_open_ && load >= SharedTarget::kClosed),
        .slots = target.came_ms == 0
                     ? INT_MAX
                     : slow_start_slots(now.ms - target.came_ms, service.route.max_concurrency)};
  };
  std::shared_ptr<Target> target;
  if (still_prefers(request, *pool, now)) {
    if (request.sticky_->shared->load.load(std::memory_order_seq_cst) >=
        service.route.max_concurrency)
      return false;
    target = request.sticky_;
  } else {
    const std::optional<size_t> picked =
        pick_target(targets.size(), pool->near, service.route.max_concurrency, random(), view);
    if (!picked) return false;
    target = targets[*picked];
  }
  // Other loops count too: the place may have gone to one of them just now, or the target been
  // closed.
  const int before = target->shared->load.fetch_add(1, std::memory_order_seq_cst);
  if (before >= service.route.max_concurrency) {
    release(service, *pool, *target);
    return false;
  }
  if (before + 1 >= pool->shared->signal_at.load(std::memory_order_relaxed) &&
      pool->signalled_ms != now.ms) {
    pool->signalled_ms = now.ms;
    ask(*pool);
  }
  stop_waiting(request, now);
  request.enter_pool(pool, now);
  request.target_ = std::move(target);
  request.given_ = true;
  request.unanswered_ = false;
  return true;
}

bool Queues::try_others(QueuedRequest& request, LoopTime now) {
  const Service& service = *request.service_;
  if (request.pinned_ || request.sticky_ != nullptr || service.pools.size() == 1 ||
      !request.pool_->shared->short_of_targets.load(std::memory_order_seq_cst))
    return false;
  const size_t start = static_cast<size_t>(random() % service.pools.size());
  for (size_t k = 0; k < service.pools.size(); ++k) {
    const std::shared_ptr<Pool> other = service.pools[(start + k) % service.pools.size()];
    if (other == request.pool_ || other->share == 0 || other->waiting > 0) continue;
    if (any_free(service, *other) && try_target(request, other, now)) return true;
  }
  return false;
}

bool Queues::find_untried(QueuedRequest& request, LoopTime now) {
  const auto untried = [&](const Pool& pool) {
    return std::ranges::any_of(pool.targets,
                               [&](const auto& target) { return !request.has_failed(*target); });
  };
  if (untried(*request.pool_)) return true;
  if (request.pinned_) return false;
  for (const std::shared_ptr<Pool>& other : request.service_->pools) {
    if (other->share == 0 || !untried(*other)) continue;
    request.enter_pool(other, now);
    return true;
  }
  return false;
}

bool Queues::any_free(const Service& service, const Pool& pool) {
  return std::any_of(pool.targets.begin(), pool.targets.end(), [&](const auto& target) {
    return target->shared->load.load(std::memory_order_seq_cst) < service.route.max_concurrency;
  });
}

// ---- a request's way ----

void Queues::begin(QueuedRequest& request, LoopTime now) {
  Service& service = *request.service_;
  request.begun_ms_ = now.ms;
  service.counts->in_flight.begin(now.us);
  service.budget.request(now.ms / 1'000);
  if (request.pool_ == nullptr) return request.enter_pool(choose_pool(service), now);
  request.pool_->counts->in_flight.begin(now.us);
  request.set_deadline_of(*request.pool_);
}

Turn Queues::dispatch(QueuedRequest& request, LoopTime now) {
  Service& service = *request.service_;
  // It may have gone since the request came, or was last tried.
  if (!service.listed) return Turn::kStopped;
  if (service.route.state == link::RouteState::kPaused) return Turn::kPaused;
  if (request.pool_ != nullptr && !request.pool_->listed) {
    if (request.pinned_) return Turn::kStopped;
    request.leave_pool(now);
  }
  if (request.pool_ == nullptr) request.enter_pool(choose_pool(service), now);
  // Who waits already comes first.
  if (request.pool_->waiting == 0 && try_target(request, request.pool_, now)) return Turn::kGiven;
  if (try_others(request, now)) return Turn::kGiven;
  if (service.waiting >= kQueuedPerServiceMax) return Turn::kQueueFull;
  wait(request, now);
  return Turn::kWaits;
}

void Queues::wait(QueuedRequest& request, LoopTime now) {
  Service& service = *request.service_;
  Pool& pool = *request.pool_;
  request.waiting_ = true;
  request.waiting_since_us_ = now.us;
  request.previous_waiting_ = pool.last_waiting;
  request.next_waiting_ = nullptr;
  (pool.last_waiting != nullptr ? pool.last_waiting->next_waiting_ : pool.first_waiting) = &request;
  pool.last_waiting = &request;
  ++pool.waiting;
  ++service.waiting;
  service.counts->queued.add();
  pool.counts->queued.add();
  // Before the main thread is asked: it shall see that this one is to be woken.
  if (request.sticky_ != nullptr)
    request.sticky_->shared->wanted.fetch_add(1, std::memory_order_seq_cst);
  set_waiting_bit(service);
  // A place that came free on another loop, or by a target's waking, before it could be seen that
  // we wait would wake nobody.
  if (any_free(service, pool)) calls_.look_again(service.shared->id);
  // That there is nothing to wake has been seen already: more of it is no news.
  if (!pool.shared->short_of_targets.load(std::memory_order_seq_cst)) ask(pool);
}

uint64_t Queues::due(const QueuedRequest& request) const {
  if (request.resting_) return std::min(request.deadline_ms_, request.rest_until_ms_);
  const uint64_t since = request.waiting_since_ms();
  uint64_t due = std::min(request.deadline_ms_, since + request.service_->route.queue_timeout_ms);
  if (!request.fail_open_) due = std::min(due, since + failover_);
  return due;
}

Turn Queues::look(QueuedRequest& request, LoopTime now) {
  const bool late = now.ms >= request.deadline_ms_;
  if (request.resting_) {
    if (late) return Turn::kConnectFailed;
    if (now.ms < request.rest_until_ms_) return Turn::kWaits;
    request.resting_ = false;
    std::fill(std::begin(request.failed_), std::end(request.failed_), nullptr);
    if (!request.pinned_) request.leave_pool(now);
    return dispatch(request, now);
  }
  const uint64_t since = request.waiting_since_ms();
  if (late) return Turn::kNoTarget;
  // A place may have come free in this very turn.
  if (now.ms >= since + request.service_->route.queue_timeout_ms)
    return try_target(request, request.pool_, now) ? Turn::kGiven : Turn::kNoTarget;
  // A place that is free and passed over, since it failed lately or is not the client's own, is
  // better than none; there may be one later, too.
  if (!request.fail_open_ && now.ms >= since + failover_) {
    request.fail_open_ = true;
    if (try_target(request, request.pool_, now)) return Turn::kGiven;
  }
  return Turn::kWaits;
}

Turn Queues::connect_failed(QueuedRequest& request, bool timed_out, LoopTime now) {
  request.unanswered_ = true;
  gateway_failed(request, now);
  const auto free = std::ranges::find(request.failed_, nullptr);
  HOB_ASSERT(free != std::end(request.failed_));
  *free = request.target_;
  release(request);
  const bool more = free - std::begin(request.failed_) < kConnectRetriesMax;
  // Over budget it is not lost, but comes later: it has cost no target anything yet.
  if (more && find_untried(request, now) && may_retry(request, now)) {
    request.count_retry();
    return dispatch(request, now);
  }
  if (timed_out) return Turn::kConnectTimeout;
  if (request.rests_since_ms_ == 0) {
    request.rests_since_ms_ = now.ms;
    request.rest_ms_ = kRestMin;
  } else {
    request.rest_ms_ = std::min(2 * request.rest_ms_, kRestMax);
  }
  if (now.ms + request.rest_ms_ >=
      request.rests_since_ms_ + request.service_->route.queue_timeout_ms)
    return Turn::kConnectFailed;
  request.count_retry();
  request.service_->counts->retries.add();
  request.resting_ = true;
  request.rest_until_ms_ = now.ms + request.rest_ms_;
  return Turn::kWaits;
}

// What is harmless twice goes to another target. Not to a third: it may be this request that ends
// them.
bool Queues::lost(QueuedRequest& request, bool replayable, LoopTime now) {
  const auto free = std::ranges::find(request.failed_, nullptr);
  if (!replayable || request.losses_ >= kLossRetriesMax ||
      free - std::begin(request.failed_) >= kConnectRetriesMax)
    return false;
  *free = request.target_;
  release(request);  // while its target is of its pool
  if (!find_untried(request, now) || !may_retry(request, now)) return false;
  ++request.losses_;
  return true;
}

void Queues::answered(QueuedRequest& request) {
  std::atomic<bool>& failing = request.target_->shared->failing;
  if (failing.load(std::memory_order_relaxed)) failing.store(false, std::memory_order_relaxed);
}

void Queues::ended_well(QueuedRequest& request) { request.target_->ejection.succeeded(); }

void Queues::stop_waiting(QueuedRequest& request, LoopTime now) {
  if (!request.waiting_) return;
  request.waiting_ = false;
  if (next_visited_ == &request) next_visited_ = request.next_waiting_;
  Service& service = *request.service_;
  Pool& pool = *request.pool_;
  (request.previous_waiting_ != nullptr ? request.previous_waiting_->next_waiting_
                                        : pool.first_waiting) = request.next_waiting_;
  (request.next_waiting_ != nullptr ? request.next_waiting_->previous_waiting_
                                    : pool.last_waiting) = request.previous_waiting_;
  --pool.waiting;
  --service.waiting;
  service.counts->queued.subtract();
  pool.counts->queued.subtract();
  if (request.sticky_ != nullptr)
    request.sticky_->shared->wanted.fetch_sub(1, std::memory_order_seq_cst);
  const uint64_t queued_us = now.us - request.waiting_since_us_;
  request.queued_us_ += queued_us;
  service.counts->queued_us.add(queued_us);
  set_waiting_bit(service);
  if (pool.waiting == 0 && pool.shared->short_of_targets.load(std::memory_order_seq_cst)) ask(pool);
}

void Queues::set_waiting_bit(Service& service) const {
  const uint64_t bit = uint64_t{1} << loop_;
  if (service.waiting > 0) {
    service.shared->waiting_loops.fetch_or(bit, std::memory_order_seq_cst);
  } else {
    service.shared->waiting_loops.fetch_and(~bit, std::memory_order_seq_cst);
  }
}

void Queues::ask(Pool& pool) const {
  if (calls_.ask && !pool.shared->asked.exchange(true, std::memory_order_acq_rel))
    calls_.ask(pool.shared);
}

void Queues::release(QueuedRequest& request) {
  if (request.target_ == nullptr) return;
  const std::shared_ptr<Target> target = std::exchange(request.target_, nullptr);
  release(*request.service_, *request.pool_, *target);
}

void Queues::release(Service& service, Pool& pool, Target& target) {
  const int before = target.shared->load.fetch_sub(1, std::memory_order_seq_cst);
  const int in_flight = before & (SharedTarget::kClosed - 1);
  HOB_ASSERT(in_flight > 0);
  if (in_flight == 1) {
    if (target.shared->draining.load(std::memory_order_relaxed) && calls_.drained) calls_.drained();
    if (before >= SharedTarget::kClosed) ask(pool);
  }
  // After this turn's callbacks: who releases may be in the middle of something.
  if (service.waiting > 0) calls_.look_again(service.shared->id);
  const uint64_t waiting = service.shared->waiting_loops.load(std::memory_order_seq_cst);
  if (waiting == 0 || !calls_.wake) return;
  for (size_t i = 0; i < loops_; ++i) {
    if (i != loop_ && (waiting >> i & 1) != 0) calls_.wake(i, *service.shared);
  }
}

void Queues::wake_service(const std::string& id, LoopTime now) {
  const auto found = services_.find(id);
  if (found == services_.end()) return;
  const std::shared_ptr<Service> service = found->second;
  serve_waiting(*service, now);
}

void Queues::serve_waiting(Service& service, LoopTime now) {
  // By number: a request that gets its answer now may let its client's next one change the queues.
  for (size_t i = 0; i < service.pools.size(); ++i) {
    const std::shared_ptr<Pool> pool = service.pools[i];
    next_visited_ = pool->first_waiting;
    while (next_visited_ != nullptr) {
      QueuedRequest& request = *std::exchange(next_visited_, next_visited_->next_waiting_);
      if (try_target(request, pool, now) || try_others(request, now)) {
        calls_.given(request);
      } else if (request.sticky_ == nullptr) {
        break;  // one that waits for its client's own target is in nobody's way
      }
    }
  }
  next_visited_ = nullptr;
}

bool Queues::may_retry(QueuedRequest& request, LoopTime now) {
  Service& service = *request.service_;
  const bool may = service.budget.take(now.ms / 1'000);
  (may ? service.counts->retries : service.counts->retries_put_off).add();
  return may;
}

void Queues::gateway_failed(QueuedRequest& request, LoopTime now) {
  Pool& pool = *request.pool_;
  Target& target = *request.target_;
  target.shared->failing.store(true, std::memory_order_relaxed);
  if (pool.sleeps) ask(pool);  // another may be woken in its place
  size_t ejected = 0;
  for (const auto& other : pool.targets) {
    if (other.get() != &target && other->ejection.ejected(now.ms)) ++ejected;
  }
  if (target.ejection.failed(now.ms, ejected, pool.targets.size()))
    request.service_->counts->ejections.add();
}

}  // namespace hob::edge
