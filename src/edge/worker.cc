#include "edge/worker.h"

#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <utility>

#include "base/ids.h"
#include "edge/acme_answers.h"
#include "edge/client_connection.h"
#include "edge/exchange.h"
#include "edge/http2_upstream.h"
#include "edge/stickiness.h"
#include "edge/tls.h"
#include "edge/upstream_connection.h"

namespace hob::edge {

Worker::Worker(std::unique_ptr<Loop> loop, size_t index, WorkerContext& context,
               std::vector<uint16_t> ports)
    : loop_(std::move(loop)), index_(index), context_(context), ports_(std::move(ports)) {
  SystemRandom().fill(random_state_, sizeof random_state_);
  listening_ = !ports_.empty();
  random_state_[0] |= 1;  // all zeros would stay zeros
}

Worker::~Worker() = default;

uint64_t Worker::random() {  // xoroshiro128+: for choices and trace ids, not for secrets
  const uint64_t a = random_state_[0];
  uint64_t b = random_state_[1];
  const uint64_t result = a + b;
  b ^= a;
  random_state_[0] = ((a << 24) | (a >> 40)) ^ b ^ (b << 16);
  random_state_[1] = (b << 37) | (b >> 27);
  return result;
}

namespace {

void renew(http::Head& head) {
  // A member that is added must be put back to its initial value here.
  static_assert(sizeof(http::Head) == sizeof(head.fields) + 88);
  head.minor = 1;
  head.field_count = 0;
  head.bytes = 0;
  head.framing = http::Framing::kNone;
  head.content_length = 0;
  head.keep_alive = true;
  head.upgrade = false;
  head.status = 0;
  head.error = "";
  head.scanned = head.line_start = head.head_start = 0;
  head.lines = head.empty_lines = 0;
}

}  // namespace

http::RequestHead& Worker::fresh_request_head() {
  static_assert(sizeof(http::RequestHead) == sizeof(http::Head) + 5 * sizeof(std::string_view) + 8);
  renew(request_head_);
  request_head_.method = request_head_.target = request_head_.path = request_head_.query =
      request_head_.host = {};
  request_head_.expect_continue = false;
  return request_head_;
}

http::ResponseHead& Worker::fresh_response_head() {
  static_assert(sizeof(http::ResponseHead) ==
                sizeof(http::Head) + 8 + sizeof(std::string_view) + 8);
  renew(response_head_);
  response_head_.code = 0;
  response_head_.reason = {};
  response_head_.ignore_content_length = false;
  return response_head_;
}

uint32_t Worker::unix_seconds() {
  if (loop_->now_ms() - unix_seconds_at_ >= 200 || unix_seconds_ == 0) {
    unix_seconds_ = static_cast<uint32_t>(std::time(nullptr));
    unix_seconds_at_ = loop_->now_ms();
  }
  return unix_seconds_;
}

void Worker::apply(const Routes& routes) {
  by_host_.clear();
  std::vector<std::shared_ptr<Pool>> dropped;
  for (auto& [id, service] : services_) service->listed = false;
  for (auto& [shared, target] : targets_) target->listed = false;
  for (const ServiceRoute& route : routes.services) {
    std::shared_ptr<Service>& service = services_[route.service->id];
    if (service == nullptr || service->shared != route.service) {
      service = std::make_shared<Service>();
      service->shared = route.service;
      service->counts = route.service->loops[index_].get();
    }
    // Two routes of one service (more host names): the last one's targets hold.
    service->listed = true;
    service->route = route;
    apply_pools(*service, route, dropped);
    for (const std::string& host : route.host_names)
      by_host_.insert_or_assign(host.starts_with("*.") ? host.substr(1) : host,
                                Destination{.service = service});
    for (size_t i = 0; i < route.pools.size(); ++i) {
      for (const std::string& host : route.pools[i].host_names)
        by_host_.insert_or_assign(host, Destination{.service = service, .pool = service->pools[i]});
    }
  }
  for (auto it = targets_.begin(); it != targets_.end();) {
    if (it->second->listed) {
      ++it;
      continue;
    }
    close_kept(*it->second);
    it = targets_.erase(it);
  }
  for (auto it = services_.begin(); it != services_.end();) {
    const std::shared_ptr<Service> service = it->second;
    if (!service->listed) {
      it = services_.erase(it);
      refuse_waiting(*service, Refusal::kStopped);
    } else {
      ++it;
      if (service->route.state == link::RouteState::kPaused)
        refuse_waiting(*service, Refusal::kPaused);
      for (size_t i = 0; i < service->pools.size(); ++i) {
        if (service->pools[i]->share == 0) dispatch_waiting(*service->pools[i], false);
      }
      serve_waiting(*service);
    }
  }
  for (const std::shared_ptr<Pool>& pool : dropped) dispatch_waiting(*pool, true);
  applied_.store(routes.version, std::memory_order_release);
}

void Worker::apply_pools(Service& service, const ServiceRoute& route,
                         std::vector<std::shared_ptr<Pool>>& dropped) {
  std::vector<std::shared_ptr<Pool>> before = std::exchange(service.pools, {});
  service.shares = 0;
  for (const PoolRoute& from : route.pools) {
    const auto known = std::ranges::find_if(
        before, [&](const auto& pool) { return pool != nullptr && pool->shared == from.pool; });
    std::shared_ptr<Pool> pool = known != before.end() ? std::exchange(*known, nullptr) : nullptr;
    if (pool == nullptr) {
      pool = std::make_shared<Pool>();
      pool->shared = from.pool;
      pool->counts = from.pool->loops[index_].get();
    }
    pool->share = from.share;
    pool->sleeps = from.awake_min >= 0;
    service.shares += static_cast<uint64_t>(from.share);
    pool->targets.clear();
    pool->near = from.near;
    for (const std::shared_ptr<SharedTarget>& shared : from.targets) {
      std::shared_ptr<Target>& target = targets_[shared.get()];
      if (target == nullptr) {
        target = std::make_shared<Target>(shared);
        if (applied_.load(std::memory_order_relaxed) >= 0) target->came_ms = loop_->now_ms();
      }
      target->listed = true;
      pool->targets.push_back(target);
    }
    service.pools.push_back(std::move(pool));
  }
  for (std::shared_ptr<Pool>& pool : before) {
    if (pool == nullptr) continue;
    pool->listed = false;
    pool->targets.clear();
    dropped.push_back(std::move(pool));
  }
}

void Worker::refuse_waiting(Service& service, Refusal why) {
  for (size_t i = 0; i < service.pools.size(); ++i) {
    while (service.pools[i]->first_waiting != nullptr)
      service.pools[i]->first_waiting->refuse(why, 503);
  }
}

void Worker::dispatch_waiting(Pool& pool, bool pinned) {
  for (Exchange* exchange = pool.first_waiting; exchange != nullptr;) {
    Exchange* next = exchange->next_waiting_;
    if (pinned || !exchange->pinned_) {
      stop_waiting(*exchange);
      if (!exchange->pinned_) exchange->leave_pool();
      dispatch(*exchange);
    }
    exchange = next;
  }
}

const Destination* Worker::find(std::string_view host) const {
  auto found = by_host_.find(host);
  if (found == by_host_.end()) {
    const size_t dot = host.find('.');
    if (dot != std::string_view::npos && dot > 0) found = by_host_.find(host.substr(dot));
  }
  return found != by_host_.end() ? &found->second : nullptr;
}

bool Worker::find_acme_answer(std::string_view host, std::string_view path) {
  acme_answer_ = acme_ == nullptr ? std::string_view() : acme_->by_http(host, path);
  return !acme_answer_.empty();
}

void Worker::on_accept(int fd, size_t listener) {
  const bool unready = listener >= context_.tls_from && certificates_ == nullptr;
  if (aborting_ || clients_ >= kConnectionsMax || unready) {
    ::close(fd);
    counts_.shed.add();
    return;
  }
  counts_.accepted.add();
  (new ClientConnection(*this, listener))->open(fd);
}

void Worker::enter(ClientConnection& connection) {
  connection.next_ = first_client_;
  connection.previous_ = nullptr;
  if (first_client_ != nullptr) first_client_->previous_ = &connection;
  first_client_ = &connection;
  ++clients_;
  counts_.connections.add();
}

void Worker::leave(ClientConnection& connection) {
  if (connection.next_ != nullptr) connection.next_->previous_ = connection.previous_;
  (connection.previous_ != nullptr ? connection.previous_->next_ : first_client_) =
      connection.next_;
  --clients_;
  counts_.connections.subtract();
}

void Worker::begin_handshake(ClientConnection& connection) {
  if (handshakes_.size() >= kHandshakesMax) {
    counts_.shed.add();
    handshakes_[random() % handshakes_.size()]->abort();
  }
  connection.tls_->place() = static_cast<uint32_t>(handshakes_.size());
  handshakes_.push_back(&connection);
  handshakes_peak_ = std::max(handshakes_peak_, handshakes_.size());
}

void Worker::end_handshake(ClientConnection& connection) {
  if (connection.tls_ == nullptr) return;
  const uint32_t place = std::exchange(connection.tls_->place(), TlsFilter::kNoPlace);
  if (place == TlsFilter::kNoPlace) return;
  if (handshakes_[place] != handshakes_.back()) {
    handshakes_[place] = handshakes_.back();
    handshakes_[place]->tls_->place() = place;
  }
  handshakes_.pop_back();
  if (handshakes_peak_ < kHandshakesMany || handshakes_.size() > handshakes_peak_ / 8) return;
  handshakes_peak_ = handshakes_.size();
  if (context_.give_back_memory) context_.give_back_memory();
}

void Worker::drain(Draining how) {
  draining_ = how;
  loop_->unlisten(how == Draining::kHandOver ? Backlog::kTake : Backlog::kLeave);
  for (ClientConnection* client = first_client_; client != nullptr;) {
    ClientConnection* next = client->next_;
    client->drain();
    client = next;
  }
}

void Worker::abort_all() {
  aborting_ = true;
  drain(Draining::kStop);
  for (ClientConnection* client = first_client_; client != nullptr;) {
    ClientConnection* next = client->next_;
    client->abort();
    client = next;
  }
  for (auto& [shared, target] : targets_) {
    close_kept(*target);
  }
}

// ---- targets ----

const std::shared_ptr<Pool>& Worker::choose_pool(const Service& service) {
  if (service.pools.size() == 1) return service.pools.front();
  return service.pools[pick_version(service.pools.size(), service.shares, random(),
                                    [&](size_t i) { return service.pools[i]->share; })];
}

void Worker::recall(Exchange& exchange, const Destination& destination) const {
  const StickyTokens tokens = sticky_tokens(request_head_);
  if (tokens.target.empty()) return;
  for (const std::shared_ptr<Pool>& pool : destination.service->pools) {
    // A way by name is to that version alone; one without a share has no claim on its clients.
    if (destination.pool != nullptr ? pool != destination.pool : pool->share == 0) continue;
    if (pool->shared->token != tokens.version) continue;
    const auto known = std::ranges::find_if(
        pool->targets, [&](const auto& target) { return target->shared->token == tokens.target; });
    exchange.prefer(pool, known != pool->targets.end() ? *known : nullptr);
    return;
  }
}

bool Worker::still_prefers(Exchange& exchange, const Pool& pool, uint64_t now) const {
  if (exchange.sticky_ == nullptr) return false;
  const bool usable =
      !exchange.fail_open_ && !exchange.sticky_->ejection.ejected(now) &&
      std::ranges::find(exchange.failed_, exchange.sticky_.get()) == std::end(exchange.failed_) &&
      std::ranges::find(pool.targets, exchange.sticky_) != pool.targets.end();
  if (!usable) {
    if (exchange.waiting_) exchange.sticky_->shared->wanted.fetch_sub(1, std::memory_order_seq_cst);
    exchange.sticky_.reset();
  }
  return usable;
}

bool Worker::try_target(Exchange& exchange, const std::shared_ptr<Pool>& pool) {
  const std::shared_ptr<Service> service = exchange.service_;
  const uint64_t now = loop_->now_ms();
  const auto& targets = pool->targets;
  const auto view = [&](size_t i) {
    const Target& target = *targets[i];
    const int load = target.shared->load.load(std::memory_order_seq_cst);
    return TargetView{
        .in_flight = load,
        .ejected = target.ejection.ejected(now),
        .excluded = std::find(std::begin(exchange.failed_), std::end(exchange.failed_), &target) !=
                        std::end(exchange.failed_) ||
                    (exchange.fail_open_ && load >= SharedTarget::kClosed),
        .slots = target.came_ms == 0
                     ? INT_MAX
                     : slow_start_slots(now - target.came_ms, service->route.max_concurrency)};
  };
  std::shared_ptr<Target> target;
  if (still_prefers(exchange, *pool, now)) {
    if (exchange.sticky_->shared->load.load(std::memory_order_seq_cst) >=
        service->route.max_concurrency)
      return false;
    target = exchange.sticky_;
  } else {
    const std::optional<size_t> picked =
        pick_target(targets.size(), pool->near, service->route.max_concurrency, random(), view);
    if (!picked) return false;
    target = targets[*picked];
  }
  // Other loops count too: the place may have gone to one of them just now, or the target been
  // closed.
  const int before = target->shared->load.fetch_add(1, std::memory_order_seq_cst);
  if (before >= service->route.max_concurrency) {
    release(*service, *pool, *target);
    return false;
  }
  if (before + 1 >= pool->shared->signal_at.load(std::memory_order_relaxed) &&
      pool->signalled_ms != now) {
    pool->signalled_ms = now;
    ask(*pool);
  }
  stop_waiting(exchange);
  exchange.enter_pool(pool);
  exchange.attach(target, upstream_to(target, service->route.protocol));
  return true;
}

Upstream& Worker::upstream_to(const std::shared_ptr<Target>& target,
                              link::TargetProtocol protocol) {
  if (protocol == link::TargetProtocol::kHttp2) {
    const auto found = std::ranges::find_if(
        target->http2, [](const Http2Upstream* each) { return each->takes_streams(); });
    if (found != target->http2.end()) {
      counts_.upstream_reused.add();
      return (*found)->new_call();
    }
    auto* connection = new Http2Upstream(*this, target);
    counts_.upstream_opened.add();
    connection->open();
    return connection->new_call();
  }
  if (!target->idle.empty()) {
    UpstreamConnection* connection = target->idle.back();
    target->idle.pop_back();
    connection->idle_ = false;
    counts_.upstream_reused.add();
    return *connection;
  }
  auto* connection = new UpstreamConnection(*this, target);
  counts_.upstream_opened.add();
  connection->open();
  return *connection;
}

// Connections that carry streams close after the last.
void Worker::close_kept(Target& target) {
  // Each takes itself off its list.
  while (!target.idle.empty()) target.idle.back()->close();
  while (!target.http2.empty()) target.http2.back()->retire();
}

void Worker::dispatch(Exchange& exchange) {
  const std::shared_ptr<Service> service = exchange.service_;
  if (exchange.pool_ != nullptr && !exchange.pool_->listed) {
    if (exchange.pinned_) {
      exchange.refuse(Refusal::kStopped, 503);
      return;
    }
    exchange.leave_pool();
  }
  if (exchange.pool_ == nullptr) exchange.enter_pool(choose_pool(*service));
  const std::shared_ptr<Pool> pool = exchange.pool_;
  // Who waits already comes first.
  if (pool->waiting == 0 && try_target(exchange, pool)) return;
  if (try_others(exchange)) return;
  if (service->waiting >= kQueuedPerServiceMax) {
    exchange.refuse(Refusal::kQueueFull, 503);
    return;
  }
  exchange.waiting_ = true;
  exchange.waiting_since_us_ = loop_->now_us();
  exchange.previous_waiting_ = pool->last_waiting;
  exchange.next_waiting_ = nullptr;
  (pool->last_waiting != nullptr ? pool->last_waiting->next_waiting_ : pool->first_waiting) =
      &exchange;
  pool->last_waiting = &exchange;
  ++pool->waiting;
  ++service->waiting;
  service->counts->queued.add();
  pool->counts->queued.add();
  // Before the main thread is asked: it shall see that this one is to be woken.
  if (exchange.sticky_ != nullptr)
    exchange.sticky_->shared->wanted.fetch_add(1, std::memory_order_seq_cst);
  set_waiting_bit(*service);
  // A place that came free on another loop, or by a target's waking, before it could be seen that
  // we wait would wake nobody.
  const bool free = any_free(*service, *pool);
  if (free) loop_->post([this, id = service->shared->id] { wake_service(id); });
  exchange.passed_over_ = (free || exchange.sticky_ != nullptr) && !exchange.fail_open_;
  exchange.set_deadline();
  // That there is nothing to wake has been seen already: more of it is no news.
  if (!pool->shared->short_of_targets.load(std::memory_order_seq_cst)) ask(*pool);
}

bool Worker::try_waiting(Exchange& exchange) { return try_target(exchange, exchange.pool_); }

bool Worker::try_others(Exchange& exchange) {
  const Service& service = *exchange.service_;
  if (exchange.pinned_ || exchange.sticky_ != nullptr || service.pools.size() == 1 ||
      !exchange.pool_->shared->short_of_targets.load(std::memory_order_seq_cst))
    return false;
  const size_t start = static_cast<size_t>(random() % service.pools.size());
  for (size_t k = 0; k < service.pools.size(); ++k) {
    const std::shared_ptr<Pool> other = service.pools[(start + k) % service.pools.size()];
    if (other == exchange.pool_ || other->share == 0 || other->waiting > 0) continue;
    if (any_free(service, *other) && try_target(exchange, other)) return true;
  }
  return false;
}

bool Worker::find_untried(Exchange& exchange) {
  const auto untried = [&](const Pool& pool) {
    return std::ranges::any_of(pool.targets, [&](const auto& target) {
      return std::ranges::find(exchange.failed_, target.get()) == std::end(exchange.failed_);
    });
  };
  if (untried(*exchange.pool_)) return true;
  if (exchange.pinned_) return false;
  for (const std::shared_ptr<Pool>& other : exchange.service_->pools) {
    if (other->share == 0 || !untried(*other)) continue;
    exchange.enter_pool(other);
    return true;
  }
  return false;
}

void Worker::ask(Pool& pool) {
  if (context_.ask && !pool.shared->asked.exchange(true, std::memory_order_acq_rel))
    context_.ask(pool.shared);
}

bool Worker::any_free(const Service& service, const Pool& pool) const {
  return std::any_of(pool.targets.begin(), pool.targets.end(), [&](const auto& target) {
    return target->shared->load.load(std::memory_order_seq_cst) < service.route.max_concurrency;
  });
}

void Worker::stop_waiting(Exchange& exchange) {
  if (!exchange.waiting_) return;
  exchange.waiting_ = false;
  Service& service = *exchange.service_;
  Pool& pool = *exchange.pool_;
  (exchange.previous_waiting_ != nullptr ? exchange.previous_waiting_->next_waiting_
                                         : pool.first_waiting) = exchange.next_waiting_;
  (exchange.next_waiting_ != nullptr ? exchange.next_waiting_->previous_waiting_
                                     : pool.last_waiting) = exchange.previous_waiting_;
  --pool.waiting;
  --service.waiting;
  service.counts->queued.subtract();
  pool.counts->queued.subtract();
  if (exchange.sticky_ != nullptr)
    exchange.sticky_->shared->wanted.fetch_sub(1, std::memory_order_seq_cst);
  const uint64_t queued_us = loop_->now_us() - exchange.waiting_since_us_;
  exchange.queued_us_ += queued_us;
  service.counts->queued_us.add(queued_us);
  set_waiting_bit(service);
  if (pool.waiting == 0 && pool.shared->short_of_targets.load(std::memory_order_seq_cst)) ask(pool);
}

void Worker::set_waiting_bit(Service& service) {
  const uint64_t bit = uint64_t{1} << index_;
  if (service.waiting > 0) {
    service.shared->waiting_loops.fetch_or(bit, std::memory_order_seq_cst);
  } else {
    service.shared->waiting_loops.fetch_and(~bit, std::memory_order_seq_cst);
  }
}

void Worker::release(Service& service, Pool& pool, Target& target) {
  const int before = target.shared->load.fetch_sub(1, std::memory_order_seq_cst);
  const int in_flight = before & (SharedTarget::kClosed - 1);
  HOB_ASSERT(in_flight > 0);
  if (in_flight == 1) {
    if (target.shared->draining.load(std::memory_order_relaxed) && context_.on_drained)
      context_.on_drained();
    if (before >= SharedTarget::kClosed) ask(pool);
  }
  if (service.waiting > 0) {
    // After this turn's callbacks: who releases may be in the middle of something.
    loop_->post([this, id = service.shared->id] { wake_service(id); });
  }
  const uint64_t waiting = service.shared->waiting_loops.load(std::memory_order_seq_cst);
  if (waiting == 0 || !context_.wake) return;
  for (size_t i = 0; i < context_.loops; ++i) {
    if (i != index_ && (waiting >> i & 1) != 0) context_.wake(i, *service.shared);
  }
}

void Worker::wake_service(const std::string& id) {
  const auto found = services_.find(id);
  if (found != services_.end()) serve_waiting(*found->second);
}

void Worker::serve_waiting(Service& service) {
  // By number: a request that gets its answer now may let its client's next one change the queues.
  for (size_t i = 0; i < service.pools.size(); ++i) {
    const std::shared_ptr<Pool> pool = service.pools[i];
    for (Exchange* exchange = pool->first_waiting; exchange != nullptr;) {
      Exchange* next = exchange->next_waiting_;
      // One that waits for its client's own target is in nobody's way.
      if (!try_target(*exchange, pool) && !try_others(*exchange) && exchange->sticky_ == nullptr)
        break;
      exchange = next;
    }
  }
}

bool Worker::may_retry(Service& service) {
  const bool may = service.budget.take(loop_->now_ms() / 1'000);
  (may ? service.counts->retries : service.counts->retries_put_off).add();
  return may;
}

void Worker::gateway_failed(Service& service, Pool& pool, Target& target) {
  target.shared->failing.store(true, std::memory_order_relaxed);
  if (pool.sleeps) ask(pool);  // another may be woken in its place
  const uint64_t now = loop_->now_ms();
  size_t ejected = 0;
  for (const auto& other : pool.targets) {
    if (other.get() != &target && other->ejection.ejected(now)) ++ejected;
  }
  if (target.ejection.failed(now, ejected, pool.targets.size())) service.counts->ejections.add();
}

// ---- connections ----

void Worker::keep_idle(UpstreamConnection& connection) {
  Target& target = connection.target();
  if (!target.listed || draining_ != Draining::kNo || target.shared->closed() ||
      target.idle.size() >= kIdlePerTargetMax) {
    connection.close();
    return;
  }
  connection.idle_ = true;
  target.idle.push_back(&connection);
  loop_->set_timer(connection, loop_->now_ms() + context_.times.keep_alive_target);
}

void Worker::forget_idle(UpstreamConnection& connection) {
  std::vector<UpstreamConnection*>& idle = connection.target().idle;
  // The warmest are at the end, and so is what is closed while in use.
  const auto found = std::find(idle.rbegin(), idle.rend(), &connection);
  HOB_ASSERT(found != idle.rend());
  idle.erase(std::next(found).base());
}

void Worker::close_idle(SharedTarget* of) {
  const auto found = targets_.find(of);
  if (found == targets_.end() || !of->closed()) return;
  const std::shared_ptr<Target> target = found->second;
  close_kept(*target);
}

std::unique_ptr<Exchange> Worker::take_exchange() {
  if (spare_exchanges_.empty()) return std::make_unique<Exchange>(*this);
  std::unique_ptr<Exchange> exchange = std::move(spare_exchanges_.back());
  spare_exchanges_.pop_back();
  return exchange;
}

void Worker::give_back(std::unique_ptr<Exchange> exchange) {
  exchange->reset();
  if (spare_exchanges_.size() < kSpareExchangesMax) {
    spare_exchanges_.push_back(std::move(exchange));
    return;
  }
  // After this turn: it may be whose call this is.
  if (leaving_exchanges_.empty()) loop_->post([this] { leaving_exchanges_.clear(); });
  leaving_exchanges_.push_back(std::move(exchange));
}

}  // namespace hob::edge
