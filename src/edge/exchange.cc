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
  last_progress_ms_ = worker_.loop().now_ms();
  keeping_ = true;
  worker_.queues().begin(*this, worker_.now());
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
  obey(worker_.queues().dispatch(*this, worker_.now()));
}

void Exchange::obey(Turn turn) {
  switch (turn) {
    case Turn::kGiven:
      return attach(worker_.upstream_to(target_, pool_->settings.protocol));
    case Turn::kWaits:
      return set_deadline();
    case Turn::kPaused:
      return refuse(Refusal::kPaused, 503);
    case Turn::kStopped:
      return refuse(Refusal::kStopped, 503);
    case Turn::kQueueFull:
      return refuse(Refusal::kQueueFull, 503);
    case Turn::kNoTarget:
      return refuse(Refusal::kNoTarget, 503);
    case Turn::kConnectFailed:
      return refuse(Refusal::kConnectFailed, 502);
    case Turn::kConnectTimeout:
      return refuse(Refusal::kConnectTimeout, 504);
  }
}

void Exchange::set_deadline() {
  uint64_t due = deadline_ms_;
  if (held()) {
    due = worker_.queues().due(*this);
  } else if (const uint64_t idle = pool_->settings.idle_timeout_ms; idle > 0) {
    due = std::min(due, last_progress_ms_ + idle);
  }
  worker_.loop().set_alarm(*this, due);
}

void Exchange::on_alarm() {
  if (front_ == nullptr) return;
  if (held()) {
    obey(worker_.queues().look(*this, worker_.now()));
    return;
  }
  const uint64_t now = worker_.loop().now_ms();
  const uint64_t idle = pool_->settings.idle_timeout_ms;
  const bool late = now >= deadline_ms_ && !upgraded_;
  if (late || (idle > 0 && now >= last_progress_ms_ + idle)) {
    if (!request_ended_ && wants_body() && !late) {
      refuse(Refusal::kClientTooSlow, 408);
    } else {
      refuse(Refusal::kTimeout, 504);
    }
    return;
  }
  if (upgraded_) deadline_ms_ = kNever;
  set_deadline();
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

void Exchange::attach(Upstream& upstream) {
  upstream_ = &upstream;
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

void Exchange::abandon_upstream() {
  Upstream* upstream = std::exchange(upstream_, nullptr);
  connected_ = false;
  if (upstream != nullptr) upstream->abandon();
}

void Exchange::let_go_of_target() {
  if (target_ == nullptr) return;
  abandon_upstream();
  worker_.queues().release(*this);
}

void Exchange::upstream_connect_failed(bool timed_out) {
  abandon_upstream();
  obey(worker_.queues().connect_failed(*this, timed_out, worker_.now()));
}

void Exchange::upstream_lost(Refusal why) {
  unanswered_ = !upgraded_;
  if (answer_begun_) {
    // A tunnel's end may look like this; an answer's, where it says that it is not whole.
    if (!upgraded_) worker_.queues().gateway_failed(*this, worker_.now());
    Front* front = front_;
    finish(status_);
    front->answer_abort(why);
    return;
  }
  // A target may close a connection that it thinks idle just as we use it: that is no failure of
  // the target's.
  const bool stale = why == Refusal::kTargetClosed && upstream_->reused();
  if (stale && keeping_ && facts_.idempotent && reuse_retries_ < kReuseRetriesMax) {
    if (!Queues::may_retry(*this, worker_.now())) return refuse(why, 502);
    ++reuse_retries_;
    let_go_of_target();
    obey(worker_.queues().dispatch(*this, worker_.now()));
    return;
  }
  if (!stale) worker_.queues().gateway_failed(*this, worker_.now());
  // It ended with our request unanswered.
  const bool replayable = why == Refusal::kTargetClosed && keeping_ && facts_.idempotent;
  abandon_upstream();
  if (worker_.queues().lost(*this, replayable, worker_.now())) {
    count_retry();
    obey(worker_.queues().dispatch(*this, worker_.now()));
    return;
  }
  refuse(why, 502);
}

void Exchange::upstream_refused() {
  if (answer_begun_ || !keeping_ || refusals_ >= kRefusalsMax)
    return upstream_lost(Refusal::kTargetClosed);
  if (!Queues::may_retry(*this, worker_.now())) {
    unanswered_ = true;
    return refuse(Refusal::kTargetClosed, 502);
  }
  ++refusals_;
  let_go_of_target();
  obey(worker_.queues().dispatch(*this, worker_.now()));
}

void Exchange::refuse(Refusal why, int status) {
  worker_.queues().stop_waiting(*this, worker_.now());
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
  worker_.queues().stop_waiting(*this, worker_.now());
  finish(answer_begun_ ? status_ : 0);
}

// Lets everything go and counts; the front hears no more after this.
void Exchange::finish(int status) {
  resting_ = false;
  let_go_of_target();
  if (answer_begun_ && status >= 500) unanswered_ = true;
  leave_pool(worker_.now());
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
                               .tries = 1 + retries_ + reuse_retries_ + refusals_});
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
        (facts_.connect && !opens_websocket(head, websocket_accept_))) {
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
  Queues::answered(*this);
  if (upgraded_) Queues::ended_well(*this);
  answer_begun_ = true;
  keeping_ = false;
  kept_.clear();
  trailers_.clear();
  head_.clear();
  status_ = head.code;
  if (const uint64_t seconds = pool_->settings.sticky_seconds; seconds > 0) {
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
  Queues::ended_well(*this);
  Front* front = front_;
  // The connection has let go of us; it is in the pool again.
  upstream_ = nullptr;
  finish(status_);
  front->answer_end(trailers);
}

void Exchange::reset() {
  clear();
  head_.clear();
  kept_.clear();
  trailers_.clear();
  front_ = nullptr;
  answer_lines_.clear();
  websocket_accept_.clear();
  upstream_ = nullptr;
  log_prefix_.clear();
  sent_bytes_ = received_bytes_ = 0;
  status_ = 0;
  reuse_retries_ = refusals_ = interim_ = 0;
  connected_ = keeping_ = request_ended_ = answer_begun_ = upgraded_ = false;
  worker_.loop().set_alarm(*this, kNever);
}

}  // namespace hob::edge
