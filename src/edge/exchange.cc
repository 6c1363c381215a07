#include "edge/exchange.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "edge/access_log.h"
#include "edge/stickiness.h"
#include "edge/upstream.h"
#include "edge/websocket.h"

namespace hob::edge {

void Exchange::start(Front& front, std::shared_ptr<Service> service, const RequestFacts& facts,
                     uint64_t content_length) {
  front_ = &front;
  service_ = std::move(service);
  facts_ = facts;
  started_us_ = worker_.loop().now_us();
  started_ms_ = last_progress_ms_ = worker_.loop().now_ms();
  const uint64_t limit = service_->route.request_timeout_ms;
  deadline_ms_ = limit == 0 ? kNever : started_ms_ + limit;
  keeping_ = true;
  service_->counts->in_flight.begin(started_us_);
  service_->budget.request(started_ms_ / 1'000);
  if (pool_ != nullptr) pool_->counts->in_flight.begin(started_us_);
  if (facts.framing == http::Framing::kLength) {
    char line[48];
    const int size = std::snprintf(line, sizeof line, "Content-Length: %llu\r\n\r\n",
                                   static_cast<unsigned long long>(content_length));
    head_.append(worker_.buffers(), std::string_view(line, static_cast<size_t>(size)));
  } else if (facts.framing == http::Framing::kChunked) {
    head_.append(worker_.buffers(), "Transfer-Encoding: chunked\r\n\r\n");
  } else {
    head_.append(worker_.buffers(), "\r\n");
  }
  if (service_->route.state == link::RouteState::kPaused) {
    refuse(Refusal::kPaused, 503);
    return;
  }
  worker_.dispatch(*this);
}

void Exchange::set_deadline() {
  uint64_t due = deadline_ms_;
  if (resting_) {
    due = std::min(due, rest_until_ms_);
  } else if (waiting_) {
    due = std::min(due, waiting_since_ms() + service_->route.queue_timeout_ms);
    if (passed_over_) due = std::min(due, waiting_since_ms() + worker_.context().times.failover);
  } else if (service_->route.idle_timeout_ms > 0) {
    due = std::min(due, last_progress_ms_ + service_->route.idle_timeout_ms);
  }
  worker_.loop().set_alarm(*this, due);
}

void Exchange::on_alarm() {
  if (front_ == nullptr) return;
  const uint64_t now = worker_.loop().now_ms();
  const uint64_t idle = service_->route.idle_timeout_ms;
  const bool late = now >= deadline_ms_ && !upgraded_;
  if (resting_ && late) {
    refuse(Refusal::kConnectFailed, 502);
  } else if (resting_ && now >= rest_until_ms_) {
    resting_ = false;
    std::fill(std::begin(failed_), std::end(failed_), nullptr);
    if (!pinned_) leave_pool();
    worker_.dispatch(*this);
  } else if (resting_) {
    set_deadline();
  } else if (waiting_ && (late || now >= waiting_since_ms() + service_->route.queue_timeout_ms)) {
    refuse(Refusal::kNoTarget, 503);
  } else if (waiting_ && passed_over_ &&
             now >= waiting_since_ms() + worker_.context().times.failover) {
    passed_over_ = false;
    fail_open_ = true;
    if (!worker_.try_waiting(*this)) set_deadline();
  } else if (!waiting_ && (late || (idle > 0 && now >= last_progress_ms_ + idle))) {
    if (!request_ended_ && wants_body() && !late) {
      refuse(Refusal::kClientTooSlow, 408);
    } else {
      refuse(Refusal::kTimeout, 504);
    }
  } else {
    if (upgraded_) deadline_ms_ = kNever;
    set_deadline();
  }
}

// ---- the request ----

bool Exchange::wants_body() const {
  if (!connected_) return kept_.bytes() < kQueuedBytesHigh;
  return upstream_->unsent() < kQueuedBytesHigh;
}

void Exchange::request_body(Slice data) {
  // Bytes without a frame would be the target's next request; no front lets them come this far.
  if (facts_.framing == http::Framing::kNone && !upgraded_) return;
  progress();
  received_bytes_ += data.size();
  // The target has answered without waiting for it all: nobody reads the rest.
  if (upstream_ == nullptr && !held()) return;
  Chain piece;
  piece.append(worker_.buffers(), std::move(data));
  if (upstream_ != nullptr) upstream_->send_body(piece);
  if (!keeping_) return;
  kept_.splice(piece);
  if (connected_ && kept_.bytes() > kReplayBytesMax) {
    keeping_ = false;
    kept_.clear();
  }
}

void Exchange::request_end(std::string_view trailers) {
  request_ended_ = true;
  if (keeping_) trailers_ = trailers;
  if (upstream_ != nullptr) upstream_->send_end(trailers);
}

void Exchange::attach(std::shared_ptr<Target> target, Upstream& upstream) {
  target_ = std::move(target);
  given_ = true;
  unanswered_ = false;
  upstream_ = &upstream;
  waiting_ = false;
  last_progress_ms_ = worker_.loop().now_ms();
  set_deadline();
  upstream.begin(*this);
  if (!upstream.send_head(head_)) return;
  if (!kept_.empty()) upstream.send_body(kept_);
  if (request_ended_) upstream.send_end(trailers_);
  if (upstream.connected()) upstream_connected();
}

void Exchange::upstream_connected() {
  connected_ = true;
  // Once some of it may have been read by a target, only what is harmless twice is kept to be sent
  // again, and what the target may hand back.
  if ((!facts_.idempotent && !upstream_->may_refuse()) || kept_.bytes() > kReplayBytesMax) {
    keeping_ = false;
    kept_.clear();
  }
}

void Exchange::upstream_drained() {
  progress();
  if (!request_ended_ && upstream_ != nullptr && upstream_->unsent() <= kQueuedBytesLow)
    front_->body_wanted();
}

// ---- failures ----

void Exchange::let_go_of_target() {
  if (target_ == nullptr) return;
  Upstream* upstream = std::exchange(upstream_, nullptr);
  connected_ = false;
  if (upstream != nullptr) upstream->abandon();
  const std::shared_ptr<Target> target = std::move(target_);
  target_ = nullptr;
  worker_.release(*service_, *pool_, *target);
}

void Exchange::pin(std::shared_ptr<Pool> pool) {
  pinned_ = true;
  pool_ = std::move(pool);
}

void Exchange::prefer(std::shared_ptr<Pool> pool, std::shared_ptr<Target> target) {
  pool_ = std::move(pool);
  sticky_ = std::move(target);
}

void Exchange::enter_pool(const std::shared_ptr<Pool>& pool) {
  if (pool_ == pool) return;
  leave_pool();
  pool_ = pool;
  pool_->counts->in_flight.begin(worker_.loop().now_us());
}

void Exchange::leave_pool() {
  if (pool_ == nullptr) return;
  PoolCounts& counts = *pool_->counts;
  counts.in_flight.end(worker_.loop().now_us());
  if (given_) counts.requests.add();
  if (given_ && unanswered_) counts.failures.add();
  given_ = unanswered_ = false;
  pool_.reset();
}

void Exchange::upstream_connect_failed(bool timed_out) {
  unanswered_ = true;
  worker_.gateway_failed(*service_, *pool_, *target_);
  const auto free = std::ranges::find(failed_, nullptr);
  HOB_ASSERT(free != std::end(failed_));
  *free = target_.get();
  let_go_of_target();
  const bool more = free - std::begin(failed_) < kConnectRetriesMax;
  // Over budget it is not lost, but comes later: it has cost no target anything yet.
  if (more && worker_.find_untried(*this) && worker_.may_retry(*service_)) {
    count_retry();
    worker_.dispatch(*this);
    return;
  }
  if (timed_out) {
    refuse(Refusal::kConnectTimeout, 504);
    return;
  }
  const uint64_t now = worker_.loop().now_ms();
  if (rests_since_ms_ == 0) {
    rests_since_ms_ = now;
    rest_ms_ = kRestMin;
  } else {
    rest_ms_ = std::min(2 * rest_ms_, kRestMax);
  }
  if (now + rest_ms_ >= rests_since_ms_ + service_->route.queue_timeout_ms) {
    refuse(Refusal::kConnectFailed, 502);
    return;
  }
  count_retry();
  service_->counts->retries.add();
  resting_ = true;
  rest_until_ms_ = now + rest_ms_;
  set_deadline();
}

void Exchange::count_retry() {
  if (connect_retries_ < UINT8_MAX) ++connect_retries_;
}

void Exchange::upstream_lost(Refusal why) {
  unanswered_ = !upgraded_;
  if (answer_begun_) {
    // A tunnel's end may look like this; an answer's, where it says that it is not whole.
    if (!upgraded_) worker_.gateway_failed(*service_, *pool_, *target_);
    Front* front = front_;
    finish(status_);
    front->answer_abort(why);
    return;
  }
  // A target may close a connection that it thinks idle just as we use it: that is no failure of
  // the target's.
  const bool stale = why == Refusal::kTargetClosed && upstream_->reused();
  if (stale && keeping_ && facts_.idempotent && reuse_retries_ < kReuseRetriesMax &&
      worker_.may_retry(*service_)) {
    ++reuse_retries_;
    let_go_of_target();
    worker_.dispatch(*this);
    return;
  }
  if (!stale) worker_.gateway_failed(*service_, *pool_, *target_);
  // It ended with our request unanswered: what is harmless twice goes to another one. Not to a
  // third: it may be this request that ends them.
  const auto free = std::ranges::find(failed_, nullptr);
  if (why == Refusal::kTargetClosed && keeping_ && facts_.idempotent && !lost_once_ &&
      free - std::begin(failed_) < kConnectRetriesMax && worker_.may_retry(*service_)) {
    *free = target_.get();
    if (worker_.find_untried(*this)) {
      lost_once_ = true;
      let_go_of_target();
      count_retry();
      worker_.dispatch(*this);
      return;
    }
  }
  refuse(why, 502);
}

void Exchange::upstream_refused() {
  if (!answer_begun_ && keeping_ && refusals_ < kRefusalsMax && worker_.may_retry(*service_)) {
    ++refusals_;
    let_go_of_target();
    service_->counts->retries.add();
    worker_.dispatch(*this);
    return;
  }
  upstream_lost(Refusal::kTargetClosed);
}

void Exchange::refuse(Refusal why, int status) {
  worker_.stop_waiting(*this);
  if (why == Refusal::kTimeout) unanswered_ = !upgraded_;
  Front* front = front_;
  const bool begun = answer_begun_;
  service_->counts->refused.add();
  finish(begun ? status_ : status);
  if (begun) {
    front->answer_abort(why);
  } else {
    front->answer_refusal(why, status);
  }
}

void Exchange::cancel() {
  if (front_ == nullptr) return;
  worker_.stop_waiting(*this);
  finish(answer_begun_ ? status_ : 0);
}

// Lets everything go and counts; the front hears no more after this.
void Exchange::finish(int status) {
  resting_ = false;
  let_go_of_target();
  if (answer_begun_ && status >= 500) unanswered_ = true;
  leave_pool();
  ServiceCounts& counts = *service_->counts;
  const uint64_t now_us = worker_.loop().now_us();
  counts.in_flight.end(now_us);
  const uint64_t took_us = now_us - started_us_;
  counts.by_class[static_cast<size_t>(std::clamp(status / 100, 0, 5))].add();
  const double seconds = static_cast<double>(took_us) / 1e6;
  size_t bucket = 0;
  while (bucket < kLatencyBuckets.size() && seconds > kLatencyBuckets[bucket]) ++bucket;
  counts.latency[bucket].add();
  counts.latency_us.add(took_us);
  counts.service_us.add(took_us - queued_us_);
  counts.received_bytes.add(received_bytes_);
  counts.sent_bytes.add(sent_bytes_);
  if (AccessLog* log = worker_.context().access_log; log != nullptr) {
    log->add(worker_.index(), {.prefix = log_prefix_,
                               .service = service_->shared->id,
                               .status = status,
                               .received_bytes = received_bytes_,
                               .sent_bytes = sent_bytes_,
                               .took_us = took_us,
                               .tries = 1 + connect_retries_ + reuse_retries_ + refusals_});
  }
  front_ = nullptr;
  worker_.loop().set_alarm(*this, kNever);
}

// ---- the answer ----

bool Exchange::trailers_may_come() const {
  return upstream_ != nullptr && upstream_->trailers_may_come();
}

void Exchange::upstream_head(const http::ResponseHead& head, std::string_view raw) {
  progress();
  if (head.code < 200 && head.code != 101) {
    if (++interim_ > kInterimResponsesMax) {
      upstream_lost(Refusal::kBadResponse);
      return;
    }
    front_->answer_head(head, raw);
    return;
  }
  if (head.code == 101) {
    if (!facts_.upgrade || !head.upgrade ||
        (!websocket_accept_.empty() && !opens_websocket(head, websocket_accept_))) {
      upstream_lost(Refusal::kBadResponse);
      return;
    }
    upgraded_ = true;
    deadline_ms_ = kNever;
  }
  if (facts_.connect && head.code >= 200 && head.code < 300) {
    // No failure of the target's: it need not know WebSockets at every address.
    refuse(Refusal::kNotSwitched, 502);
    return;
  }
  if (target_->shared->failing.load(std::memory_order_relaxed))
    target_->shared->failing.store(false, std::memory_order_relaxed);
  if (upgraded_) target_->ejection.succeeded();
  answer_begun_ = true;
  keeping_ = false;
  kept_.clear();
  trailers_.clear();
  head_.clear();
  status_ = head.code;
  if (const uint64_t seconds = service_->route.sticky_seconds; seconds > 0) {
    answer_lines_ = sticky_line({.version = pool_->shared->token, .target = target_->shared->token},
                                seconds, facts_.secure);
  }
  front_->answer_head(head, raw);
}

void Exchange::upstream_body(Slice data) {
  progress();
  sent_bytes_ += data.size();
  front_->answer_body(std::move(data));
  if (upstream_ != nullptr && front_->answer_queued() >= kQueuedBytesHigh)
    upstream_->pause_reading();
}

void Exchange::answer_drained() {
  progress();
  if (upstream_ != nullptr && front_->answer_queued() <= kQueuedBytesLow)
    upstream_->resume_reading();
}

void Exchange::upstream_end(std::string_view trailers) {
  // Not at its head: a target that breaks off each of its answers would never be ejected.
  target_->ejection.succeeded();
  Front* front = front_;
  // The connection has let go of us; it is in the pool again.
  upstream_ = nullptr;
  finish(status_);
  front->answer_end(trailers);
}

void Exchange::reset() {
  head_.clear();
  kept_.clear();
  trailers_.clear();
  front_ = nullptr;
  service_.reset();
  pool_.reset();
  sticky_.reset();
  answer_lines_.clear();
  websocket_accept_.clear();
  target_.reset();
  upstream_ = nullptr;
  std::fill(std::begin(failed_), std::end(failed_), nullptr);
  log_prefix_.clear();
  queued_us_ = sent_bytes_ = received_bytes_ = 0;
  status_ = 0;
  connect_retries_ = reuse_retries_ = refusals_ = interim_ = 0;
  rests_since_ms_ = 0;
  waiting_ = resting_ = connected_ = keeping_ = request_ended_ = answer_begun_ = upgraded_ = false;
  pinned_ = given_ = unanswered_ = passed_over_ = fail_open_ = lost_once_ = false;
  worker_.loop().set_alarm(*this, kNever);
}

}  // namespace hob::edge
