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

namespace {
Queues::Options options_of(size_t index, const WorkerContext& context) {
  Queues::Options options{
      .loop = index, .loops = context.loops, .failover = context.times.failover};
  SystemRandom().fill(options.random, sizeof options.random);
  return options;
}
}  // namespace

Worker::Worker(std::unique_ptr<Loop> loop, size_t index, WorkerContext& context,
               std::vector<uint16_t> ports)
    : loop_(std::move(loop)),
      index_(index),
      context_(context),
      ports_(std::move(ports)),
      queues_(options_of(index, context), calls()) {
  listening_ = !ports_.empty();
}

Worker::~Worker() = default;

Queues::Calls Worker::calls() {
  const auto exchange = [](QueuedRequest& request) -> Exchange& {
    return static_cast<Exchange&>(request);
  };
  return {.given = [exchange](QueuedRequest& request) { exchange(request).obey(Turn::kGiven); },
          .waits = [exchange](QueuedRequest& request) { exchange(request).obey(Turn::kWaits); },
          .refused = [exchange](QueuedRequest& request, Turn why) { exchange(request).obey(why); },
          .unlisted = [](Target& target) { close_kept(target); },
          .look_again =
              [this](const std::string& id) { loop_->post([this, id] { wake_service(id); }); },
          .wake = context_.wake,
          .ask = context_.ask,
          .drained = context_.on_drained};
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
  queues_.apply(routes, now());
  applied_.store(routes.version, std::memory_order_release);
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
  queues_.each_target([](Target& target) { close_kept(target); });
}

// ---- targets ----

void Worker::recall(Exchange& exchange, const Destination& destination) const {
  Queues::recall(exchange, destination, sticky_tokens(request_head_));
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
  const std::shared_ptr<Target>* const found = queues_.target_of(of);
  if (found == nullptr || !of->closed()) return;
  const std::shared_ptr<Target> target = *found;
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
