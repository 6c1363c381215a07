#include "edge/http2_session.h"

#include <algorithm>
#include <utility>

#include "edge/admission.h"
#include "edge/client_connection.h"

namespace hob::edge {
namespace {

constexpr std::string_view kDrainPing = "hobdrain";

Http2Stream& stream_of(Http2Flow& flow) { return static_cast<Http2Stream&>(flow); }

}  // namespace

// ---- a stream, as its exchange sees it ----

void Http2Stream::answer_head(const http::ResponseHead& head, std::string_view) {
  if (head.code == 101) return open_tunnel(head);
  std::string& block = session_.core_.fresh_block();
  write_answer_block(head, block);
  if (head.code < 200) {
    session_.core_.send_block(*this, block, false);
    return;
  }
  // A refusal's has been given back.
  if (exchange_ != nullptr) write_trailer_block(exchange_->answer_lines(), block);
  // With its last byte the stream is ended, where nothing may follow.
  const bool open = exchange_ != nullptr && exchange_->trailers_may_come();
  has_body_length = head.framing == http::Framing::kLength && !open;
  body_left = head.content_length;
  const bool bodiless =
      (head.framing == http::Framing::kNone && !open) || (has_body_length && body_left == 0);
  session_.core_.send_block(*this, block, bodiless);
  if (exchange_ != nullptr && exchange_->deciding() && !std::exchange(request_told_, true)) {
    // An upgrade that was declined: the request was just its head.
    exchange_->request_end({});
  }
}

void Http2Stream::open_tunnel(const http::ResponseHead& head) {
  std::string& block = session_.core_.fresh_block();
  write_answer_block(head, block);
  write_trailer_block(exchange_->answer_lines(), block);
  session_.core_.send_block(*this, block, false);
  // What the client has sent on ahead.
  feed();
}

void Http2Stream::answer_body(Slice data) { session_.core_.send_body(*this, std::move(data)); }

void Http2Stream::answer_end(std::string_view trailers) {
  worker_.give_back(std::move(exchange_));
  if (!end_sent && !trailers.empty()) write_trailer_block(trailers, last_block);
  session_.core_.end_body(*this);
  session_.close_if_done(*this);
}

void Http2Stream::answer_refusal(Refusal why, int status) {
  const std::string text = refusal_page(worker_, exchange_.get(), why, status, asker_);
  if (exchange_ != nullptr) worker_.give_back(std::move(exchange_));
  http::ResponseHead& head = worker_.fresh_response_head();
  const http::Parsed parsed = http::parse(text, head, asker_.head_method ? "HEAD" : "GET");
  HOB_ASSERT(parsed == http::Parsed::kDone);
  answer_head(head, text);
  const std::string_view page = std::string_view(text).substr(head.bytes);
  Chain body;
  if (!end_sent && body.append(worker_.buffers(), page)) {
    while (!body.empty()) answer_body(body.take_first());
  }
  session_.core_.end_body(*this);
  session_.close_if_done(*this);
}

void Http2Stream::answer_abort(Refusal why) {
  if (asker_.grpc && !end_sent) return answer_end(grpc_trailers(why));
  // RFC 8441 §5: what a reset is to a tunnel of HTTP/1.1.
  const Http2Error how = exchange_->upgraded() ? Http2Error::kCancel : Http2Error::kInternal;
  worker_.give_back(std::move(exchange_));
  session_.reset(*this, how, false);
}

size_t Http2Stream::answer_queued() const { return session_.core_.backlog(*this); }

void Http2Stream::feed() {
  while (!held.empty() && takes_body()) {
    Slice data = held.take_first();
    const size_t bytes = data.size();
    exchange_->request_body(std::move(data));
    session_.core_.give_back(this, bytes);
  }
  if (exchange_ != nullptr && remote_ended && held.empty() && !exchange_->deciding() &&
      !request_told_) {
    request_told_ = true;
    exchange_->request_end(trailers_);
  }
}

void Http2Stream::let_go() {
  if (exchange_ == nullptr) return;
  exchange_->cancel();
  worker_.give_back(std::move(exchange_));
}

// ---- the session ----

Http2Session::Http2Session(Worker& worker, ClientConnection& connection)
    : worker_(worker),
      connection_(connection),
      core_(worker, connection, *this, {.window_max = kHttp2WindowMax}),
      active_ms_(worker.loop().now_ms()) {}

Http2Session::~Http2Session() = default;

void Http2Session::open() {
  char settings[18];
  http2::put(settings + 12, http2::kEnableConnectProtocol, 2);
  http2::put(settings + 14, 1, 4);
  http2::put(settings, http2::kMaxConcurrentStreams, 2);
  http2::put(settings + 2, kHttp2StreamsMax, 4);
  http2::put(settings + 6, http2::kMaxHeaderListSize, 2);
  http2::put(settings + 8, static_cast<uint32_t>(http::kHeadBytesMax), 4);
  core_.open({settings, sizeof settings});
  set_timer();
}

void Http2Session::cancel() {
  for (size_t i = 0; i < core_.streams(); ++i) stream_of(core_.flow(i)).let_go();
  core_.stop();
  waiting_.clear();
}

void Http2Session::connection_ended() {
  cancel();
  linger();
}

void Http2Session::connection_broken() { connection_.close(); }

void Http2Session::linger() {
  // What is not read would have the kernel answer with a reset that overtakes the GOAWAY.
  if (std::exchange(paused_, false)) worker_.loop().read(connection_);
  connection_.linger();
}

// ---- reading ----

void Http2Session::received(Slice data) {
  if (!deferred_) {
    begun_in_turn_ = 0;
    process(data);
  }
  if (data.empty() || core_.over()) return;
  if (!waiting_.append(worker_.buffers(), std::move(data))) {
    connection_.close();
    return;
  }
  if (!deferred_) read_on_later();
  if (waiting_.bytes() > kHttp2WaitingBytesMax && !paused_) {
    paused_ = true;
    worker_.loop().pause(connection_);
  }
}

void Http2Session::read_on_later() {
  deferred_ = true;
  worker_.loop().post([this, alive = std::weak_ptr(alive_)] {
    if (!alive.expired()) process_waiting();
  });
}

void Http2Session::process_waiting() {
  deferred_ = false;
  begun_in_turn_ = 0;
  while (!waiting_.empty() && !core_.over()) {
    Slice data = waiting_.take_first();
    process(data);
    if (core_.over()) return;
    if (data.empty()) continue;
    Chain rest;
    rest.append(worker_.buffers(), std::move(data));
    rest.splice(waiting_);
    waiting_ = std::move(rest);
    read_on_later();
    return;
  }
  if (paused_ && !core_.over()) {
    paused_ = false;
    worker_.loop().read(connection_);
  }
}

// Leaves what is for a later turn.
void Http2Session::process(Slice& data) {
  if (preface_read_ < kHttp2Preface.size()) {
    const size_t count = std::min(kHttp2Preface.size() - preface_read_, data.size());
    if (data.view().substr(0, count) != kHttp2Preface.substr(preface_read_, count))
      return core_.end(Http2Error::kProtocol);
    preface_read_ += count;
    data.skip(count);
  }
  core_.read(data);
}

void Http2Session::take_data(Http2Flow& flow, Slice data) {
  Http2Stream& stream = stream_of(flow);
  const size_t bytes = data.size();
  if (stream.exchange_ == nullptr) {  // answered without being read
    core_.give_back(&stream, bytes);
    return;
  }
  if (stream.held.empty() && stream.takes_body()) {
    stream.exchange_->request_body(std::move(data));
    if (!stream.gone) core_.give_back(&stream, bytes);
    return;
  }
  if (!stream.held.append(worker_.buffers(), std::move(data))) connection_.close();
}

void Http2Session::take_end(Http2Flow& flow) {
  Http2Stream& stream = stream_of(flow);
  if (stream.has_received_length && stream.received_left != 0 && stream.exchange_ != nullptr) {
    reset(stream, Http2Error::kProtocol, true);
    return;
  }
  stream.feed();
}

void Http2Session::block_begins() {
  block_begun_ms_ = worker_.loop().now_ms();
  set_timer();
}

// True: the connection is over.
bool Http2Session::block_failed(HeadOutcome outcome) {
  if (outcome == HeadOutcome::kBadBlock) core_.end(Http2Error::kCompression);
  if (outcome == HeadOutcome::kTooLarge) core_.end(Http2Error::kEnhanceYourCalm);
  return core_.over();
}

void Http2Session::take_block(uint32_t id, bool end_stream, std::string_view block) {
  if (id % 2 == 0) return core_.end(Http2Error::kProtocol);
  if (Http2Flow* flow = core_.find(id); flow != nullptr)
    return take_trailers(stream_of(*flow), end_stream, block);
  if (id > core_.last_stream()) {
    core_.note_id(id);
    return take_request(id, end_stream, block);
  }
  if (block_failed(skip_block(core_.decoder(), block))) return;
  if (core_.was_reset(id)) {
    core_.spend(1);
  } else {
    // One that was there (RFC 9113 §5.1), or ids that go backwards (§5.1.1).
    core_.end(core_.has_ended(id) ? Http2Error::kStreamClosed : Http2Error::kProtocol);
  }
}

void Http2Session::take_request(uint32_t id, bool end_stream, std::string_view block) {
  std::string& text = worker_.text_scratch();
  const HeadOutcome outcome = read_request_block(core_.decoder(), block, end_stream, text);
  if (block_failed(outcome)) return;
  if (refusing_) return core_.note_reset(id);  // GOAWAY has told the client that nobody reads this
  if (outcome == HeadOutcome::kMalformed) return core_.reset(id, Http2Error::kProtocol, true);
  if (core_.streams() >= kHttp2StreamsMax) return core_.reset(id, Http2Error::kRefusedStream, true);
  ++begun_in_turn_;
  core_.earn(kHttp2EarnedByRequest);
  Http2Stream& stream = stream_of(core_.open_flow(id));
  stream.remote_ended = end_stream;
  stream.request_told_ = false;
  stream.trailers_.clear();
  stream.asker_ = {};
  if (outcome == HeadOutcome::kUnknownProtocol) {
    worker_.mutable_counts().refused.add();
    stream.answer_refusal(Refusal::kBadRequest, 501);
    return;
  }
  http::RequestHead& head = worker_.fresh_request_head();
  if (const http::Parsed parsed = http::parse(text, head); parsed != http::Parsed::kDone) {
    worker_.mutable_counts().refused.add();
    stream.answer_refusal(Refusal::kBadRequest, parsed == http::Parsed::kBad ? head.status : 400);
    return;
  }
  stream.asker_ = asker_of(head);
  // A length of 0 is one, too: DATA beyond it would reach the target between two requests.
  stream.has_received_length = head.framing != http::Framing::kChunked && !head.upgrade;
  stream.received_left = head.content_length;
  const Origin origin{.forwarded = connection_.forwarded_lines(),
                      .version = "HTTP/2",
                      .tls = connection_.tls_,
                      .connect = head.upgrade};
  Admission admission = admit(worker_, std::string_view(text).substr(0, head.bytes), origin);
  if (admission.exchange == nullptr) {
    stream.answer_refusal(admission.why, admission.status);
    return;
  }
  stream.exchange_ = std::move(admission.exchange);
  stream.exchange_->start(stream, std::move(admission.service), admission.facts,
                          head.content_length);
  stream.feed();
}

void Http2Session::take_trailers(Http2Stream& stream, bool end_stream, std::string_view block) {
  std::string& lines = worker_.text_scratch();
  const HeadOutcome outcome = read_trailer_block(core_.decoder(), block, lines);
  if (block_failed(outcome)) return;
  if (stream.remote_ended) return reset(stream, Http2Error::kStreamClosed, true);
  if (outcome == HeadOutcome::kMalformed || !end_stream)
    return reset(stream, Http2Error::kProtocol, true);
  stream.trailers_.assign(lines);
  stream.remote_ended = true;
  take_end(stream);
}

void Http2Session::take_reset(Http2Flow& flow, uint32_t) { stream_of(flow).let_go(); }

bool Http2Session::take_pong(std::string_view payload) {
  if (!draining_ || refusing_ || payload != kDrainPing) return false;
  drain_at_ms_ = worker_.loop().now_ms();
  on_timer();
  return true;
}

// ---- sending ----

void Http2Session::flow_moved(Http2Flow& flow) {
  if (stream_of(flow).exchange_ != nullptr) stream_of(flow).exchange_->answer_drained();
}

void Http2Session::flow_sent(Http2Flow& flow) { close_if_done(stream_of(flow)); }

// ---- streams ----

std::unique_ptr<Http2Flow> Http2Session::make_flow() {
  return std::make_unique<Http2Stream>(*this, worker_);
}

void Http2Session::close_if_done(Http2Stream& stream) {
  if (core_.over() || stream.gone || !stream.end_sent || stream.exchange_ != nullptr) return;
  if (!stream.remote_ended) {
    // Answered without all of the request: the client need not go on (RFC 9113 §8.1).
    core_.reset(stream.id, Http2Error::kNone, false);
  } else {
    core_.remove(stream);
  }
}

void Http2Session::reset(Http2Stream& stream, Http2Error why, bool count) {
  stream.let_go();
  core_.reset(stream.id, why, count);
}

void Http2Session::flow_removed() {
  if (core_.streams() > 0) return;
  active_ms_ = worker_.loop().now_ms();
  set_timer();
  finish_if_drained();
}

// ---- the end ----

void Http2Session::drain() {
  if (core_.over() || draining_) return;
  draining_ = true;
  // Streams that the client opens before it hears this are still served (RFC 9113 §6.8).
  core_.go_away(kHttp2StreamIdMax, Http2Error::kNone);
  core_.ping(kDrainPing);
  drain_at_ms_ = worker_.loop().now_ms() + worker_.context().times.drain;
  set_timer();
}

void Http2Session::finish() {
  core_.stop();
  linger();
}

void Http2Session::finish_if_drained() {
  if (!core_.over() && refusing_ && core_.streams() == 0) finish();
}

void Http2Session::set_timer() {
  if (core_.over()) return;
  const Times& times = worker_.context().times;
  uint64_t due = drain_at_ms_;
  if (!core_.settings_heard()) due = std::min(due, active_ms_ + times.header);
  if (core_.in_block()) due = std::min(due, block_begun_ms_ + times.header);
  if (core_.streams() == 0) due = std::min(due, active_ms_ + times.keep_alive_client);
  for (const Http2Flow* flow : core_.sending()) {
    if (flow == nullptr) continue;
    // Looked at more often: buffers may have become scarce.
    due = std::min(
        {due, flow->moved_ms + times.stall, worker_.loop().now_ms() + kHttp2StallScarceMs});
  }
  worker_.loop().set_timer(connection_, due);
}

void Http2Session::on_timer() {
  if (core_.over()) return;
  const Times& times = worker_.context().times;
  const uint64_t now = worker_.loop().now_ms();
  if ((!core_.settings_heard() && now >= active_ms_ + times.header) ||
      (core_.in_block() && now >= block_begun_ms_ + times.header)) {
    return core_.end(Http2Error::kEnhanceYourCalm);
  }
  if (now >= drain_at_ms_) {
    drain_at_ms_ = kNeverDrain;
    refusing_ = true;
    core_.go_away(core_.last_stream(), Http2Error::kNone);
    finish_if_drained();
  }
  // A client that takes nothing of what it asked for.
  std::vector<uint32_t> stalled;
  const uint64_t patience =
      worker_.buffers().scarce() ? std::min(times.stall, kHttp2StallScarceMs) : times.stall;
  for (const Http2Flow* flow : core_.sending()) {
    if (flow != nullptr && now >= flow->moved_ms + patience) stalled.push_back(flow->id);
  }
  for (const uint32_t id : stalled) {
    if (Http2Flow* flow = core_.find(id); flow != nullptr)
      reset(stream_of(*flow), Http2Error::kCancel, false);
  }
  if (!core_.over() && core_.streams() == 0 && now >= active_ms_ + times.keep_alive_client) {
    core_.go_away(core_.last_stream(), Http2Error::kNone);
    finish();
  }
  set_timer();
}

}  // namespace hob::edge
