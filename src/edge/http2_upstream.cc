#include "edge/http2_upstream.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "edge/exchange.h"

namespace hob::edge {
namespace {

constexpr std::string_view kHealthPing = "hobalive";

Http2Call& call_of(Http2Flow& flow) { return static_cast<Http2Call&>(flow); }

}  // namespace

// ---- a stream, as its exchange sees it ----

void Http2Call::begin(Exchange& exchange) {
  exchange_ = &exchange;
  reused_ = connection_.connected_;
  answered_ = paused_ = dropped_ = head_sent_ = false;
  trailers_.clear();
}

bool Http2Call::connected() const { return connection_.connected_; }

bool Http2Call::send_head(const Chain& head) {
  // Of others than WebSockets HTTP/2 knows none: asked in vain, as a server may let it be.
  const bool upgrade = exchange_->facts().upgrade && !exchange_->websocket_accept().empty();
  if (upgrade && !connection_.settings_taken_) {
    connection_.waiting_ = this;
    return true;
  }
  if (upgrade && !connection_.offers_websockets_) {
    exchange_->refuse(Refusal::kNoWebSockets, 501);
    return false;
  }
  std::string text;
  text.reserve(head.bytes());
  for (size_t i = 0; i < head.pieces(); ++i) text += head.piece(i).view();
  std::string& block = connection_.core_.fresh_block();
  write_request_block(text, upgrade, block);
  head_sent_ = true;
  connection_.core_.send_block(*this, block,
                               !upgrade && exchange_->facts().framing == http::Framing::kNone);
  return true;
}

void Http2Call::send_body(const Chain& data) {
  for (size_t i = 0; i < data.pieces() && !end_sent; ++i) {
    if (!connection_.core_.send_body(*this, data.piece(i).share())) return;
  }
}

void Http2Call::send_end(std::string_view trailers) {
  if (end_sent || gone) return;
  if (!trailers.empty()) write_trailer_block(trailers, last_block);
  connection_.core_.end_body(*this);
}

size_t Http2Call::unsent() const { return connection_.core_.backlog(*this); }

void Http2Call::abandon() {
  exchange_ = nullptr;
  connection_.leave(*this);
}

void Http2Call::resume_reading() {
  paused_ = false;
  while (exchange_ != nullptr && !paused_ && !held.empty()) {
    Slice data = held.take_first();
    const size_t bytes = data.size();
    exchange_->upstream_body(std::move(data));
    if (!gone) connection_.core_.give_back(this, bytes);
  }
  if (exchange_ != nullptr && held.empty() && remote_ended) connection_.complete(*this);
}

// ---- the connection ----

Http2Upstream::Http2Upstream(Worker& worker, std::shared_ptr<Target> target)
    : Socket(worker.loop()),
      worker_(worker),
      target_(std::move(target)),
      core_(worker, *this, *this, {.give_back_at_once = true, .count_resets = false}) {
  worker_.mutable_counts().upstream_connections.add();
  target_->http2.push_back(this);
}

void Http2Upstream::open() {
  loop_.set_bulk(*this, true);
  loop_.connect(*this, target_->shared->address);
  loop_.set_timer(*this, loop_.now_ms() + worker_.context().times.connect);
  out().append(worker_.buffers(), kHttp2Preface);
  char settings[12];
  http2::put(settings, http2::kEnablePush, 2);
  http2::put(settings + 2, 0, 4);
  http2::put(settings + 6, http2::kMaxHeaderListSize, 2);
  http2::put(settings + 8, static_cast<uint32_t>(http::kHeadBytesMax), 4);
  core_.open({settings, sizeof settings});
}

bool Http2Upstream::takes_streams() const {
  return listed_ && !broken_ && waiting_ == nullptr && core_.streams() < streams_max_;
}

Upstream& Http2Upstream::new_call() {
  const uint32_t id = core_.last_stream() == 0 ? 1 : core_.last_stream() + 2;
  if (id + 2 > kHttp2StreamIdMax) unlist();
  if (core_.streams() == 0 && connected_) {
    heard_ms_ = loop_.now_ms();
    pinged_ms_ = 0;
    loop_.set_timer(*this, heard_ms_ + kHttp2SilentMs);
  }
  core_.earn(kHttp2EarnedByRequest);
  return call_of(core_.open_flow(id));
}

std::unique_ptr<Http2Flow> Http2Upstream::make_flow() { return std::make_unique<Http2Call>(*this); }

void Http2Upstream::unlist() {
  if (std::exchange(listed_, false)) std::erase(target_->http2, this);
}

void Http2Upstream::retire() {
  unlist();
  if (core_.streams() == 0) close();
}

void Http2Upstream::on_connected(int error) {
  if (error == 0) {
    connected_ = true;
    heard_ms_ = loop_.now_ms();
    loop_.set_timer(*this, heard_ms_ + kHttp2SilentMs);
    loop_.read(*this);
    for (size_t i = 0; i < core_.streams(); ++i) {
      if (Exchange* exchange = call_of(core_.flow(i)).exchange_; exchange != nullptr)
        exchange->upstream_connected();
    }
    if (core_.streams() == 0) flow_removed();
    return;
  }
  unlist();
  core_.stop();
  loop_.close(*this);
  for (size_t i = 0; i < core_.streams(); ++i) {
    if (Exchange* exchange = call_of(core_.flow(i)).exchange_; exchange != nullptr)
      exchange->upstream_connect_failed(error == ETIMEDOUT);
  }
}

void Http2Upstream::close() {
  if (closing()) return;
  unlist();
  core_.stop();
  loop_.close(*this);
  lose_all(Refusal::kTargetClosed);
}

void Http2Upstream::lose_all(Refusal why) {
  for (size_t i = 0; i < core_.streams(); ++i) {
    if (Exchange* exchange = call_of(core_.flow(i)).exchange_; exchange != nullptr)
      exchange->upstream_lost(why);
  }
}

void Http2Upstream::on_released() {
  worker_.mutable_counts().upstream_connections.subtract();
  delete this;
}

void Http2Upstream::on_data(Slice data) {
  if (ended_) return;
  heard_ms_ = loop_.now_ms();
  pinged_ms_ = 0;
  core_.read(data);
}

void Http2Upstream::on_end(int) { close(); }

void Http2Upstream::on_timer() {
  if (!connected_) return on_connected(ETIMEDOUT);
  if (broken_ || ended_) return close();
  const uint64_t now = loop_.now_ms();
  if (core_.streams() == 0) return close();  // idle for long enough
  // A target that has vanished says nothing, ever.
  if (pinged_ms_ != 0 && now >= pinged_ms_ + kHttp2PongMs) return close();
  if (pinged_ms_ == 0 && now >= heard_ms_ + kHttp2SilentMs) {
    pinged_ms_ = now;
    core_.ping(kHealthPing);
  }
  loop_.set_timer(*this, pinged_ms_ != 0 ? pinged_ms_ + kHttp2PongMs : heard_ms_ + kHttp2SilentMs);
}

bool Http2Upstream::take_pong(std::string_view payload) { return payload == kHealthPing; }

void Http2Upstream::take_setting(uint16_t setting, uint32_t value) {
  if (setting == http2::kMaxConcurrentStreams) streams_max_ = std::min(value, kHttp2StreamsMax);
  if (setting == http2::kEnableConnectProtocol) offers_websockets_ = value == 1;
}

void Http2Upstream::settings_taken() {
  settings_taken_ = true;
  Http2Call* call = std::exchange(waiting_, nullptr);
  if (call != nullptr && call->exchange_ != nullptr) call->send_head(call->exchange_->head());
}

void Http2Upstream::take_go_away(uint32_t last, uint32_t) {
  unlist();
  std::vector<uint32_t> refused;
  for (size_t i = 0; i < core_.streams(); ++i) {
    if (core_.flow(i).id > last) refused.push_back(core_.flow(i).id);
  }
  for (const uint32_t id : refused) {
    Http2Flow* flow = core_.find(id);
    if (flow == nullptr) continue;
    take_reset(*flow, static_cast<uint32_t>(Http2Error::kRefusedStream));
    if (!core_.over() && !flow->gone) core_.remove(*flow);
  }
  if (core_.streams() == 0) close();
}

void Http2Upstream::connection_ended() {
  // What is queued says why. What the target still sends is dropped until it has read that: closed
  // at once, the kernel's reset would overtake it.
  unlist();
  ended_ = true;
  loop_.shut(*this);
  loop_.set_timer(*this, loop_.now_ms() + worker_.context().times.linger);
  lose_all(Refusal::kBadResponse);
}

void Http2Upstream::connection_broken() {
  // After this turn's callbacks: an exchange may be in the middle of sending.
  broken_ = true;
  loop_.set_timer(*this, loop_.now_ms());
}

// ---- answers ----

bool Http2Upstream::block_failed(HeadOutcome outcome) {
  if (outcome == HeadOutcome::kBadBlock) core_.end(Http2Error::kCompression);
  if (outcome == HeadOutcome::kTooLarge) core_.end(Http2Error::kEnhanceYourCalm);
  return core_.over();
}

void Http2Upstream::take_block(uint32_t id, bool end_stream, std::string_view block) {
  Http2Flow* flow = core_.find(id);
  if (flow == nullptr) {
    if (block_failed(skip_block(core_.decoder(), block))) return;
    if (id % 2 == 0 || id > core_.last_stream()) return core_.end(Http2Error::kProtocol);
    core_.spend(1);
    return;
  }
  Http2Call& call = call_of(*flow);
  if (!call.answered_) return take_answer(call, end_stream, block);
  const HeadOutcome outcome = read_trailer_block(core_.decoder(), block, call.trailers_);
  if (block_failed(outcome)) return;
  if (outcome == HeadOutcome::kMalformed || !end_stream || call.remote_ended) return lose(call);
  call.remote_ended = true;
  take_end(call);
}

void Http2Upstream::take_answer(Http2Call& call, bool end_stream, std::string_view block) {
  const bool head_method = call.exchange_->facts().head_method;
  std::string& text = worker_.text_scratch();
  const HeadOutcome outcome = read_answer_block(
      core_.decoder(), block, end_stream,
      {.head_method = head_method, .websocket_accept = call.exchange_->websocket_accept()}, text);
  if (block_failed(outcome)) return;
  http::ResponseHead& head = worker_.fresh_response_head();
  if (outcome == HeadOutcome::kMalformed ||
      http::parse(text, head, head_method ? "HEAD" : "GET") != http::Parsed::kDone) {
    return lose(call);
  }
  const bool tunnel = head.code == 101;
  if (head.code >= 200 || tunnel) {
    call.answered_ = true;
    call.has_received_length = head.framing != http::Framing::kChunked && !tunnel;
    call.received_left = head.content_length;
    if (head.framing == http::Framing::kNone) call.received_left = 0;
  }
  call.remote_ended = end_stream;
  call.exchange_->upstream_head(head, std::string_view(text).substr(0, head.bytes));
  if (call.exchange_ != nullptr && end_stream) take_end(call);
}

void Http2Upstream::take_data(Http2Flow& flow, Slice data) {
  Http2Call& call = call_of(flow);
  if (!call.answered_) return lose(call);
  const size_t bytes = data.size();
  if (call.paused_ || !call.held.empty()) {
    if (!call.held.append(worker_.buffers(), std::move(data))) lose(call);
    return;
  }
  call.exchange_->upstream_body(std::move(data));
  if (!call.gone) core_.give_back(&call, bytes);
}

void Http2Upstream::take_end(Http2Flow& flow) {
  Http2Call& call = call_of(flow);
  if (!call.answered_ || (call.has_received_length && call.received_left != 0)) return lose(call);
  if (call.held.empty()) complete(call);
}

void Http2Upstream::take_reset(Http2Flow& flow, uint32_t code) {
  Http2Call& call = call_of(flow);
  call.dropped_ = true;
  if (call.exchange_ == nullptr) return;
  if (code == static_cast<uint32_t>(Http2Error::kRefusedStream)) {
    call.exchange_->upstream_refused();
  } else {
    call.exchange_->upstream_lost(Refusal::kTargetClosed);
  }
}

void Http2Upstream::flow_moved(Http2Flow& flow) {
  if (call_of(flow).exchange_ != nullptr) call_of(flow).exchange_->upstream_drained();
}

void Http2Upstream::complete(Http2Call& call) {
  Exchange* exchange = std::exchange(call.exchange_, nullptr);
  const std::string trailers = std::move(call.trailers_);
  leave(call);
  exchange->upstream_end(trailers);
}

void Http2Upstream::lose(Http2Call& call) { call.exchange_->upstream_lost(Refusal::kBadResponse); }

void Http2Upstream::leave(Http2Call& call) {
  if (waiting_ == &call) waiting_ = nullptr;
  if (core_.over() || call.gone || call.dropped_) return;
  // The target knows nothing of one whose head was not sent.
  if (!call.head_sent_ || (call.remote_ended && call.end_sent)) {
    core_.remove(call);
  } else {
    core_.reset(call.id, Http2Error::kCancel, false);
  }
}

void Http2Upstream::flow_removed() {
  if (core_.streams() > 0 || closing() || ended_ || !connected_) return;
  if (!listed_ || !target_->listed || worker_.draining() != Draining::kNo ||
      target_->shared->closed()) {
    close();
    return;
  }
  loop_.set_timer(*this, loop_.now_ms() + worker_.context().times.keep_alive_target);
}

}  // namespace hob::edge
