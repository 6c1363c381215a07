// One file, long as it is: frames read, what they cost, frames written and streams ending are one
// state machine, and most of its rules are about two of these at once.
#include "edge/http2_session.h"

#include <algorithm>
#include <cstring>

#include "base/ids.h"
#include "edge/admission.h"
#include "edge/client_connection.h"
#include "edge/pages.h"

namespace hob::edge {
namespace {

constexpr std::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
constexpr size_t kFrameHeaderBytes = 9;
constexpr std::string_view kDrainPing = "hobdrain";
constexpr uint32_t kStreamIdMax = 0x7fffffff;
constexpr int64_t kWindowLimit = 0x7fffffff;

enum FrameType : uint8_t {
  kDataFrame = 0,
  kHeadersFrame = 1,
  kPriorityFrame = 2,
  kResetFrame = 3,
  kSettingsFrame = 4,
  kPushPromiseFrame = 5,
  kPingFrame = 6,
  kGoAwayFrame = 7,
  kWindowUpdateFrame = 8,
  kContinuationFrame = 9,
};
enum Flag : uint8_t {
  kEndStream = 1,
  kAck = 1,
  kEndHeaders = 4,
  kPadded = 8,
  kPriority = 32,
};
enum Setting : uint16_t {
  kEnablePush = 2,
  kMaxConcurrentStreams = 3,
  kInitialWindowSize = 4,
  kMaxFrameSize = 5,
  kMaxHeaderListSize = 6,
};

uint32_t number(std::string_view bytes) {
  uint32_t value = 0;
  for (const char c : bytes) value = value << 8 | static_cast<uint8_t>(c);
  return value;
}

void put(char* into, uint32_t value, size_t bytes) {
  for (size_t i = bytes; i-- > 0; value >>= 8) into[i] = static_cast<char>(value & 255);
}

}  // namespace

// ---- a stream, as its exchange sees it ----

void Http2Stream::answer_head(const http::ResponseHead& head, std::string_view) {
  std::string& block = session_.fresh_block();
  write_answer_block(head, block);
  if (head.code < 200) {
    session_.write_block(id_, block, false);
    return;
  }
  write_trailer_block(exchange_->answer_lines(), block);
  answer_has_length_ = head.framing == http::Framing::kLength;
  answer_left_ = head.content_length;
  const bool bodiless =
      head.framing == http::Framing::kNone || (answer_has_length_ && answer_left_ == 0);
  end_sent_ = bodiless;
  session_.write_block(id_, block, bodiless);
}

void Http2Stream::answer_body(Slice data) {
  const size_t bytes = data.size();
  if (answer_has_length_) answer_left_ -= bytes;
  if (!body_.append(worker_.buffers(), std::move(data))) {
    session_.connection_.close();
    return;
  }
  session_.queued(*this, bytes);
  session_.send(*this);
}

void Http2Stream::answer_end(std::string_view trailers) {
  worker_.give_back(std::move(exchange_));
  if (!end_sent_) {
    answer_ended_ = true;
    if (!trailers.empty()) write_trailer_block(trailers, last_block_);
    session_.send(*this);
  }
  session_.close_if_done(*this);
}

void Http2Stream::answer_refusal(Refusal why, int status) {
  std::string service;
  if (exchange_ != nullptr) {
    if (exchange_->service() != nullptr) service = exchange_->service()->route.name;
    worker_.give_back(std::move(exchange_));
  }
  SystemRandom random;
  const std::string request_id = random_uuid(random);
  Page page{.status = status,
            .why = why,
            .service = service,
            .request_id = request_id,
            .json = wants_json_,
            .head_method = head_method_};
  if (why == Refusal::kUnknownHost) page.host = worker_.request_head().host;
  if (why == Refusal::kAcmeAnswer) page.text = worker_.acme_answer();
  const std::string text = write_page(page);
  http::ResponseHead& head = worker_.fresh_response_head();
  const http::Parsed parsed = http::parse(text, head, head_method_ ? "HEAD" : "GET");
  HOB_ASSERT(parsed == http::Parsed::kDone);
  std::string& block = session_.fresh_block();
  write_answer_block(head, block);
  end_sent_ = head_method_;
  session_.write_block(id_, block, end_sent_);
  answer_ended_ = true;
  if (!end_sent_) {
    const std::string_view body = std::string_view(text).substr(head.bytes);
    if (body_.append(worker_.buffers(), body)) session_.queued(*this, body.size());
    session_.send(*this);
  }
  session_.close_if_done(*this);
}

void Http2Stream::answer_abort() {
  worker_.give_back(std::move(exchange_));
  session_.reset(*this, Http2Error::kInternal, false);
}

size_t Http2Stream::answer_queued() const {
  const bool full = session_.queued_ >= session_.queued_max();
  session_.was_full_ = session_.was_full_ || full;
  return body_.bytes() + (full ? kQueuedBytesHigh : 0);
}

void Http2Stream::feed() {
  while (exchange_ != nullptr && !held_.empty() && exchange_->wants_body()) {
    Slice data = held_.take_first();
    const size_t bytes = data.size();
    exchange_->request_body(std::move(data));
    session_.give_back_window(this, bytes);
  }
  if (exchange_ != nullptr && remote_ended_ && held_.empty() && !request_told_) {
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
    : worker_(worker), connection_(connection), active_ms_(worker.loop().now_ms()) {
  budget_at_ms_ = active_ms_;
}

Http2Session::~Http2Session() = default;

void Http2Session::open() {
  char settings[12];
  put(settings, kMaxConcurrentStreams, 2);
  put(settings + 2, kHttp2StreamsMax, 4);
  put(settings + 6, kMaxHeaderListSize, 2);
  put(settings + 8, static_cast<uint32_t>(http::kHeadBytesMax), 4);
  frame_header(sizeof settings, kSettingsFrame, 0, 0);
  write({settings, sizeof settings});
  window_update(0, kHttp2ConnectionWindow - kHttp2DefaultWindow);
  receive_window_ = kHttp2ConnectionWindow;
  set_timer();
}

void Http2Session::cancel() {
  over_ = true;
  for (const auto& stream : streams_) {
    stream->let_go();
    stream->held_.clear();
    stream->body_.clear();
  }
  waiting_.clear();
}

void Http2Session::end(Http2Error why) {
  if (over_) return;
  go_away(last_stream_, why);
  cancel();
  linger();
}

void Http2Session::linger() {
  // What is not read would have the kernel answer with a reset that overtakes the GOAWAY.
  if (std::exchange(paused_, false)) worker_.loop().read(connection_);
  connection_.linger();
}

// ---- reading ----

void Http2Session::received(Slice data) {
  if (spare_.size() > kHttp2SpareStreams) spare_.resize(kHttp2SpareStreams);
  if (!deferred_) {
    begun_in_turn_ = 0;
    process(data);
  }
  if (data.empty() || over_) return;
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
  worker_.loop().post([weak = weak_from_this()] {
    if (const auto session = weak.lock()) session->process_waiting();
  });
}

void Http2Session::process_waiting() {
  deferred_ = false;
  begun_in_turn_ = 0;
  while (!waiting_.empty() && !over_) {
    Slice data = waiting_.take_first();
    process(data);
    if (over_) return;
    if (data.empty()) continue;
    Chain rest;
    rest.append(worker_.buffers(), std::move(data));
    rest.splice(waiting_);
    waiting_ = std::move(rest);
    read_on_later();
    return;
  }
  if (paused_ && !over_) {
    paused_ = false;
    worker_.loop().read(connection_);
  }
}

// Leaves what is for a later turn.
void Http2Session::process(Slice& data) {
  while (!data.empty() && !over_) {
    switch (reading_) {
      case Reading::kPreface: {
        const size_t count = std::min(kPreface.size() - payload_.size(), data.size());
        payload_.append(data.data(), count);
        data.skip(count);
        if (payload_ != kPreface.substr(0, payload_.size())) {
          end(Http2Error::kProtocol);
        } else if (payload_.size() == kPreface.size()) {
          payload_.clear();
          reading_ = Reading::kHeader;
        }
        break;
      }
      case Reading::kHeader: {
        if (header_size_ == 0 && begun_in_turn_ >= kHttp2StreamsInATurn) return;
        const size_t count = std::min(kFrameHeaderBytes - header_size_, data.size());
        std::memcpy(header_.data() + header_size_, data.data(), count);
        header_size_ = static_cast<uint8_t>(header_size_ + count);
        data.skip(count);
        if (header_size_ == kFrameHeaderBytes) {
          header_size_ = 0;
          begin_frame();
        }
        break;
      }
      case Reading::kPayload: {
        const size_t count = std::min(frame_.length - payload_.size(), data.size());
        if (count == frame_.length) {
          const Slice payload = data.part(0, count);
          data.skip(count);
          reading_ = Reading::kHeader;
          take_payload(payload.view());
          break;
        }
        payload_.append(data.data(), count);
        data.skip(count);
        if (payload_.size() == frame_.length) {
          reading_ = Reading::kHeader;
          const std::string payload = std::exchange(payload_, {});
          take_payload(payload);
        }
        break;
      }
      case Reading::kPadLength: {
        padding_ = static_cast<uint8_t>(*data.data());
        data.skip(1);
        --data_left_;
        if (padding_ > data_left_) {
          end(Http2Error::kProtocol);
          break;
        }
        // Padding fills windows as data does, and nobody waits for it.
        give_back_window(find(frame_.stream), padding_ + 1);
        reading_ = Reading::kData;
        if (data_left_ == 0) data_ended();
        break;
      }
      case Reading::kData: {
        const size_t count = std::min<size_t>(data_left_, data.size());
        const size_t useful = data_left_ > padding_ ? data_left_ - padding_ : 0;
        Slice piece = data.part(0, std::min(count, useful));
        data.skip(count);
        data_left_ -= static_cast<uint32_t>(count);
        if (!piece.empty()) take_data(std::move(piece));
        if (data_left_ == 0 && !over_) data_ended();
        break;
      }
    }
  }
}

void Http2Session::begin_frame() {
  const std::string_view header(header_.data(), header_.size());
  frame_.length = number(header.substr(0, 3));
  frame_.type = static_cast<uint8_t>(header[3]);
  frame_.flags = static_cast<uint8_t>(header[4]);
  frame_.stream = number(header.substr(5, 4)) & kStreamIdMax;
  if (frame_.length > kHttp2FrameBytesMax) return end(Http2Error::kFrameSize);
  if (!settings_heard_ && (frame_.type != kSettingsFrame || (frame_.flags & kAck) != 0))
    return end(Http2Error::kProtocol);
  // A block of headers is not interrupted (RFC 9113 §4.3).
  if (block_stream_ != 0 && (frame_.type != kContinuationFrame || frame_.stream != block_stream_)) {
    return end(Http2Error::kProtocol);
  }
  if (frame_.type != kDataFrame) {
    reading_ = Reading::kPayload;
    if (frame_.length == 0) {
      reading_ = Reading::kHeader;
      take_payload({});
    }
    return;
  }
  if (frame_.stream == 0 || frame_.stream > last_stream_ || frame_.stream % 2 == 0)
    return end(Http2Error::kProtocol);
  if (frame_.length > receive_window_) return end(Http2Error::kFlowControl);
  receive_window_ -= frame_.length;
  Http2Stream* stream = find(frame_.stream);
  if (stream == nullptr) {
    if (std::ranges::find(gone_, frame_.stream) == gone_.end())
      reset(frame_.stream, Http2Error::kStreamClosed, true);
  } else if (stream->remote_ended_) {
    reset(*stream, Http2Error::kStreamClosed, true);
  } else if (frame_.length > stream->receive_window_) {
    reset(*stream, Http2Error::kFlowControl, true);
  } else {
    stream->receive_window_ -= frame_.length;
  }
  const bool ends = (frame_.flags & kEndStream) != 0;
  if (over_ || (frame_.length == 0 && !ends && !spend(1))) return;
  data_left_ = frame_.length;
  padding_ = 0;
  if ((frame_.flags & kPadded) != 0) {
    if (frame_.length == 0) return end(Http2Error::kFrameSize);
    reading_ = Reading::kPadLength;
  } else if (frame_.length > 0) {
    reading_ = Reading::kData;
  } else {
    data_ended();
  }
}

void Http2Session::take_data(Slice data) {
  Http2Stream* stream = find(frame_.stream);
  const size_t bytes = data.size();
  // Reset, or answered without being read.
  if (stream == nullptr || stream->exchange_ == nullptr) {
    give_back_window(stream, bytes);
    return;
  }
  if (stream->has_length_) {
    if (bytes > stream->left_) {
      give_back_window(nullptr, bytes);
      reset(*stream, Http2Error::kProtocol, true);
      return;
    }
    stream->left_ -= bytes;
  }
  if (stream->held_.empty() && stream->exchange_->wants_body()) {
    stream->exchange_->request_body(std::move(data));
    give_back_window(find(frame_.stream), bytes);
    return;
  }
  if (!stream->held_.append(worker_.buffers(), std::move(data))) connection_.close();
}

void Http2Session::data_ended() {
  reading_ = Reading::kHeader;
  if ((frame_.flags & kEndStream) == 0) return;
  if (Http2Stream* stream = find(frame_.stream); stream != nullptr) request_ended(*stream);
}

void Http2Session::request_ended(Http2Stream& stream) {
  if (stream.has_length_ && stream.left_ != 0 && stream.exchange_ != nullptr) {
    reset(stream, Http2Error::kProtocol, true);
    return;
  }
  stream.remote_ended_ = true;
  stream.feed();
}

void Http2Session::give_back_window(Http2Stream* stream, size_t bytes) {
  if (over_) return;
  taken_ += static_cast<uint32_t>(bytes);
  if (taken_ >= kHttp2ConnectionWindow / 2) {
    window_update(0, taken_);
    receive_window_ += taken_;
    taken_ = 0;
  }
  if (stream == nullptr || stream->remote_ended_) return;
  stream->taken_ += static_cast<uint32_t>(bytes);
  if (stream->taken_ < stream->window_size_ / 2) return;
  // Its target takes what comes: the client may send more at a time.
  const uint32_t growth =
      stream->held_.empty() ? std::min(stream->window_size_, kHttp2WindowMax - stream->window_size_)
                            : 0;
  stream->window_size_ += growth;
  window_update(stream->id_, stream->taken_ + growth);
  stream->receive_window_ += stream->taken_ + growth;
  stream->taken_ = 0;
}

void Http2Session::take_payload(std::string_view payload) {
  switch (frame_.type) {
    case kHeadersFrame:
      return take_headers(payload);
    case kContinuationFrame:
      return take_continuation(payload);
    case kResetFrame:
      return take_reset();
    case kSettingsFrame:
      return take_settings(payload);
    case kPingFrame:
      return take_ping(payload);
    case kWindowUpdateFrame:
      return take_window_update(payload);
    case kPriorityFrame:  // an advice that RFC 9113 has given up
      if (frame_.stream == 0) return end(Http2Error::kProtocol);
      if (frame_.length != 5) return end(Http2Error::kFrameSize);
      spend(1);
      return;
    case kPushPromiseFrame:
      return end(Http2Error::kProtocol);
    default:  // GOAWAY, and kinds that are not known (RFC 9113 §4.1)
      if (frame_.type == kGoAwayFrame && frame_.stream != 0) return end(Http2Error::kProtocol);
      spend(1);
  }
}

void Http2Session::take_headers(std::string_view payload) {
  if (frame_.stream == 0 || frame_.stream % 2 == 0) return end(Http2Error::kProtocol);
  size_t padding = 0;
  if ((frame_.flags & kPadded) != 0) {
    if (payload.empty()) return end(Http2Error::kFrameSize);
    padding = static_cast<uint8_t>(payload.front());
    payload.remove_prefix(1);
  }
  if ((frame_.flags & kPriority) != 0) {
    if (payload.size() < 5) return end(Http2Error::kFrameSize);
    payload.remove_prefix(5);
  }
  if (padding > payload.size()) return end(Http2Error::kProtocol);
  payload.remove_suffix(padding);
  block_ends_stream_ = (frame_.flags & kEndStream) != 0;
  if ((frame_.flags & kEndHeaders) != 0) return take_block(payload);
  block_.assign(payload);
  block_stream_ = frame_.stream;
  continuations_ = 0;
  block_begun_ms_ = worker_.loop().now_ms();
  set_timer();
}

void Http2Session::take_continuation(std::string_view payload) {
  if (block_stream_ == 0) return end(Http2Error::kProtocol);
  if (++continuations_ > kHttp2ContinuationsMax ||
      block_.size() + payload.size() > kHttp2BlockBytesMax) {
    return end(Http2Error::kEnhanceYourCalm);
  }
  block_.append(payload);
  if ((frame_.flags & kEndHeaders) == 0) return;
  block_stream_ = 0;
  const std::string block = std::exchange(block_, {});
  take_block(block);
}

// True: the connection is over.
bool Http2Session::block_failed(HeadOutcome outcome) {
  if (outcome == HeadOutcome::kBadBlock) end(Http2Error::kCompression);
  if (outcome == HeadOutcome::kTooLarge) end(Http2Error::kEnhanceYourCalm);
  return over_;
}

void Http2Session::take_block(std::string_view block) {
  if (Http2Stream* stream = find(frame_.stream); stream != nullptr)
    return take_trailers(*stream, block);
  if (frame_.stream > last_stream_) {
    last_stream_ = frame_.stream;
    return take_request(block);
  }
  if (block_failed(skip_block(decoder_, block))) return;
  if (std::ranges::find(gone_, frame_.stream) == gone_.end()) {
    reset(frame_.stream, Http2Error::kStreamClosed, true);
  } else {
    spend(1);
  }
}

void Http2Session::take_request(std::string_view block) {
  std::string& text = worker_.text_scratch();
  const HeadOutcome outcome = read_request_block(decoder_, block, block_ends_stream_, text);
  if (block_failed(outcome)) return;
  const uint32_t id = frame_.stream;
  if (refusing_) return note_gone(id);  // GOAWAY has told the client that nobody reads this
  if (outcome == HeadOutcome::kMalformed) return reset(id, Http2Error::kProtocol, true);
  if (streams_.size() >= kHttp2StreamsMax) return reset(id, Http2Error::kRefusedStream, true);
  ++begun_in_turn_;
  earn(kHttp2EarnedByRequest);
  Http2Stream& stream = open_stream(id);
  stream.remote_ended_ = block_ends_stream_;
  http::RequestHead& head = worker_.fresh_request_head();
  if (const http::Parsed parsed = http::parse(text, head); parsed != http::Parsed::kDone) {
    worker_.mutable_counts().refused.add();
    stream.answer_refusal(Refusal::kBadRequest, parsed == http::Parsed::kBad ? head.status : 400);
    return;
  }
  stream.head_method_ = head.method == "HEAD";
  stream.wants_json_ = asks_for_json(head);
  // A length of 0 is one, too: DATA beyond it would reach the target between two requests.
  stream.has_length_ = head.framing != http::Framing::kChunked;
  stream.left_ = head.content_length;
  const Origin origin{
      .forwarded = connection_.forwarded_lines(), .version = "HTTP/2", .tls = connection_.tls_};
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

void Http2Session::take_trailers(Http2Stream& stream, std::string_view block) {
  std::string& lines = worker_.text_scratch();
  const HeadOutcome outcome = read_trailer_block(decoder_, block, lines);
  if (block_failed(outcome)) return;
  if (stream.remote_ended_) return reset(stream, Http2Error::kStreamClosed, true);
  if (outcome == HeadOutcome::kMalformed || !block_ends_stream_)
    return reset(stream, Http2Error::kProtocol, true);
  stream.trailers_.assign(lines);
  request_ended(stream);
}

void Http2Session::take_reset() {
  if (frame_.length != 4) return end(Http2Error::kFrameSize);
  if (frame_.stream == 0 || frame_.stream > last_stream_) return end(Http2Error::kProtocol);
  Http2Stream* stream = find(frame_.stream);
  if (stream == nullptr) {
    spend(1);
    return;
  }
  const uint64_t opened = stream->opened_ms_;
  // What it cost its target ends with it, before its place is given to another.
  stream->let_go();
  remove(*stream);
  if (!over_) count_reset(opened);
}

void Http2Session::take_settings(std::string_view payload) {
  if (frame_.stream != 0) return end(Http2Error::kProtocol);
  if ((frame_.flags & kAck) != 0) {
    if (frame_.length != 0) return end(Http2Error::kFrameSize);
    spend(1);
    return;
  }
  if (frame_.length % 6 != 0) return end(Http2Error::kFrameSize);
  settings_heard_ = true;
  if (!spend(1)) return;
  for (; !payload.empty(); payload.remove_prefix(6)) {
    const uint32_t value = number(payload.substr(2, 4));
    switch (number(payload.substr(0, 2))) {
      case kEnablePush:
        if (value > 1) return end(Http2Error::kProtocol);
        break;
      case kMaxFrameSize:  // never below what we send
        if (value < kHttp2FrameBytesMax || value > 0xffffff) return end(Http2Error::kProtocol);
        break;
      case kInitialWindowSize: {
        if (value > kWindowLimit) return end(Http2Error::kFlowControl);
        const int64_t change = int64_t{value} - int64_t{peer_window_};
        peer_window_ = value;
        for (const auto& stream : streams_) {
          stream->send_window_ += change;
          if (stream->send_window_ > kWindowLimit) return end(Http2Error::kFlowControl);
        }
        break;
      }
      default:
        break;
    }
  }
  frame_header(0, kSettingsFrame, kAck, 0);
  send_all();
}

void Http2Session::take_ping(std::string_view payload) {
  if (frame_.stream != 0) return end(Http2Error::kProtocol);
  if (frame_.length != 8) return end(Http2Error::kFrameSize);
  if ((frame_.flags & kAck) != 0) {
    if (draining_ && !refusing_ && payload == kDrainPing) {
      drain_at_ms_ = worker_.loop().now_ms();
      on_timer();
      return;
    }
    spend(1);
    return;
  }
  if (!spend(1)) return;
  frame_header(8, kPingFrame, kAck, 0);
  write(payload);
}

void Http2Session::take_window_update(std::string_view payload) {
  if (frame_.length != 4) return end(Http2Error::kFrameSize);
  if (frame_.stream > last_stream_) return end(Http2Error::kProtocol);
  if (!spend(1)) return;
  const uint32_t increment = number(payload) & kStreamIdMax;
  if (frame_.stream == 0) {
    if (increment == 0) return end(Http2Error::kProtocol);
    send_window_ += increment;
    if (send_window_ > kWindowLimit) return end(Http2Error::kFlowControl);
    send_all();
    return;
  }
  Http2Stream* stream = find(frame_.stream);
  if (stream == nullptr) return;
  if (increment == 0) return reset(*stream, Http2Error::kProtocol, true);
  stream->send_window_ += increment;
  if (stream->send_window_ > kWindowLimit) return reset(*stream, Http2Error::kFlowControl, true);
  if (stream->sending_) send_all();
}

// ---- what is counted ----

bool Http2Session::spend(int cost) {
  const uint64_t seconds = (worker_.loop().now_ms() - budget_at_ms_) / 1'000;
  if (seconds > 0) {
    budget_at_ms_ += seconds * 1'000;
    earn(static_cast<int>(std::min<uint64_t>(seconds, kHttp2Budget)) * kHttp2EarnedPerSecond);
  }
  budget_ -= cost;
  if (budget_ > 0) return true;
  end(Http2Error::kEnhanceYourCalm);
  return false;
}

void Http2Session::earn(int gain) { budget_ = std::min(budget_ + gain, kHttp2Budget); }

bool Http2Session::count_reset(uint64_t opened_ms) {
  const uint64_t now = worker_.loop().now_ms();
  if (now - resets_since_ms_ > kHttp2ResetsMs) {
    resets_since_ms_ = now;
    resets_ = quick_resets_ = 0;
  }
  ++resets_;
  if (now - opened_ms < kHttp2QuickMs) ++quick_resets_;
  if (resets_ <= kHttp2ResetsMax || 2 * quick_resets_ <= resets_) return true;
  end(Http2Error::kEnhanceYourCalm);
  return false;
}

// ---- writing ----

std::string& Http2Session::fresh_block() {
  std::string& block = worker_.block_scratch();
  block.clear();
  if (!no_table_told_) block = kHpackNoTable;
  no_table_told_ = true;
  return block;
}

void Http2Session::write(std::string_view bytes) {
  if (connection_.closing()) return;
  if (!connection_.out().append(worker_.buffers(), bytes) ||
      connection_.unsent() > kHttp2UnsentBytesMax) {
    connection_.close();
    return;
  }
  worker_.loop().flush(connection_);
}

void Http2Session::frame_header(size_t length, uint8_t type, uint8_t flags, uint32_t stream) {
  char header[kFrameHeaderBytes];
  put(header, static_cast<uint32_t>(length), 3);
  header[3] = static_cast<char>(type);
  header[4] = static_cast<char>(flags);
  put(header + 5, stream, 4);
  write({header, sizeof header});
}

void Http2Session::write_block(uint32_t stream, std::string_view block, bool end_stream) {
  uint8_t type = kHeadersFrame;
  uint8_t flags = end_stream ? kEndStream : 0;
  do {
    const std::string_view part = block.substr(0, kHttp2FrameBytesMax);
    block.remove_prefix(part.size());
    if (block.empty()) flags |= kEndHeaders;
    frame_header(part.size(), type, flags, stream);
    write(part);
    type = kContinuationFrame;
    flags = 0;
  } while (!block.empty());
}

void Http2Session::window_update(uint32_t stream, uint32_t bytes) {
  char increment[4];
  put(increment, bytes, 4);
  frame_header(sizeof increment, kWindowUpdateFrame, 0, stream);
  write({increment, sizeof increment});
}

void Http2Session::go_away(uint32_t last, Http2Error why) {
  char payload[8];
  put(payload, last, 4);
  put(payload + 4, static_cast<uint32_t>(why), 4);
  frame_header(sizeof payload, kGoAwayFrame, 0, 0);
  write({payload, sizeof payload});
}

bool Http2Session::has_room() const { return connection_.unsent() < kQueuedBytesHigh; }

void Http2Session::queued(Http2Stream& stream, size_t bytes) {
  queued_ += bytes;
  LoopCount& peak = worker_.mutable_counts().queued_peak_bytes;
  const size_t now = stream.body_.bytes();
  if (now > peak.value()) peak.add(now - peak.value());
}

bool Http2Session::send_one(Http2Stream& stream) {
  Chain& body = stream.body_;
  if (body.empty()) {
    if (!stream.answer_ended_ || stream.end_sent_) return false;
    stream.end_sent_ = true;
    if (stream.last_block_.empty()) {
      frame_header(0, kDataFrame, kEndStream, stream.id_);
    } else {
      write_block(stream.id_, stream.last_block_, true);
    }
    return true;
  }
  const int64_t window = std::min(stream.send_window_, send_window_);
  if (window <= 0 || !has_room()) return false;
  const size_t count =
      std::min({body.bytes(), static_cast<size_t>(window), size_t{kHttp2FrameBytesMax}});
  const bool last =
      count == body.bytes() &&
      (stream.answer_has_length_ ? stream.answer_left_ == 0
                                 : stream.answer_ended_ && stream.last_block_.empty());
  frame_header(count, kDataFrame, last ? kEndStream : 0, stream.id_);
  for (size_t left = count; left > 0;) {
    const size_t part = std::min(left, body.piece(0).size());
    if (!connection_.out().append(worker_.buffers(), body.piece(0).part(0, part))) {
      connection_.close();
      return false;
    }
    body.consume(part);
    left -= part;
  }
  worker_.loop().flush(connection_);
  stream.send_window_ -= static_cast<int64_t>(count);
  send_window_ -= static_cast<int64_t>(count);
  queued_ -= count;
  stream.moved_ms_ = worker_.loop().now_ms();
  stream.end_sent_ = last;
  if (last || count >= kHttp2UsefulDataBytes) earn(kHttp2EarnedByData);
  return true;
}

// There is more of its answer, or the end of it.
void Http2Session::send(Http2Stream& stream) {
  if (over_ || stream.sending_) return;
  // Who waits already comes first.
  while (sending_.empty() && send_one(stream)) {
  }
  if (over_ || (stream.body_.empty() && (!stream.answer_ended_ || stream.end_sent_))) return;
  stream.sending_ = true;
  stream.moved_ms_ = worker_.loop().now_ms();
  sending_.push_back(&stream);
  if (sending_.size() == 1) set_timer();
  // Those before it may wait for windows, and then no byte's leaving says that it is its turn.
  if (connection_.unsent() == 0) send_later();
}

void Http2Session::send_later() {
  if (std::exchange(sending_later_, true)) return;
  worker_.loop().post([weak = weak_from_this()] {
    const auto session = weak.lock();
    if (session == nullptr) return;
    session->sending_later_ = false;
    session->send_all();
  });
}

void Http2Session::sent() { send_all(); }

// A frame of each in turn, while the socket takes them.
void Http2Session::send_all() {
  if (sending_all_ || over_) return;
  sending_all_ = true;
  for (size_t idle = 0; idle < sending_.size() && has_room() && !over_;) {
    Http2Stream*& place = sending_[turn_++ % sending_.size()];
    Http2Stream* stream = place;
    if (stream == nullptr || !send_one(*stream)) {
      ++idle;
      continue;
    }
    idle = 0;
    if (stream->exchange_ != nullptr) stream->exchange_->answer_drained();
    if (over_ || place != stream) continue;
    if (!stream->body_.empty() || (stream->answer_ended_ && !stream->end_sent_)) continue;
    place = nullptr;
    stream->sending_ = false;
    close_if_done(*stream);
  }
  std::erase(sending_, nullptr);
  sending_all_ = false;
  relieve();
}

size_t Http2Session::queued_max() const {
  return worker_.buffers().scarce() ? kHttp2QueuedBytesScarce : kHttp2QueuedBytesMax;
}

void Http2Session::relieve() {
  if (over_ || !was_full_ || queued_ >= queued_max()) return;
  was_full_ = false;
  for (size_t i = 0; i < streams_.size(); ++i) {
    if (streams_[i]->exchange_ != nullptr) streams_[i]->exchange_->answer_drained();
  }
}

// ---- streams ----

Http2Stream* Http2Session::find(uint32_t id) {
  if (over_) return nullptr;
  const auto found =
      std::ranges::lower_bound(streams_, id, {}, [](const auto& stream) { return stream->id_; });
  return found != streams_.end() && (*found)->id_ == id ? found->get() : nullptr;
}

Http2Stream& Http2Session::open_stream(uint32_t id) {
  if (spare_.empty()) spare_.push_back(std::make_unique<Http2Stream>(*this, worker_));
  streams_.push_back(std::move(spare_.back()));  // ids only grow
  spare_.pop_back();
  Http2Stream& stream = *streams_.back();
  stream.id_ = id;
  stream.send_window_ = peer_window_;
  stream.receive_window_ = stream.window_size_ = kHttp2DefaultWindow;
  stream.taken_ = 0;
  stream.left_ = stream.answer_left_ = 0;
  stream.opened_ms_ = worker_.loop().now_ms();
  stream.has_length_ = stream.answer_has_length_ = stream.remote_ended_ = stream.request_told_ =
      stream.answer_ended_ = stream.end_sent_ = stream.head_method_ = stream.wants_json_ = false;
  return stream;
}

void Http2Session::close_if_done(Http2Stream& stream) {
  if (over_ || !stream.end_sent_ || stream.exchange_ != nullptr) return;
  if (!stream.remote_ended_) {
    // Answered without all of the request: the client need not go on (RFC 9113 §8.1).
    reset(stream, Http2Error::kNone, false);
  } else {
    remove(stream);
  }
}

void Http2Session::remove(Http2Stream& stream) {
  queued_ -= stream.body_.bytes();
  stream.body_.clear();
  const size_t held = stream.held_.bytes();
  stream.held_.clear();
  stream.trailers_.clear();
  stream.last_block_.clear();
  if (stream.sending_) {
    stream.sending_ = false;
    const auto place = std::ranges::find(sending_, &stream);
    if (sending_all_) {
      *place = nullptr;
    } else {
      sending_.erase(place);
    }
  }
  const auto found = std::ranges::lower_bound(streams_, stream.id_, {},
                                              [](const auto& other) { return other->id_; });
  HOB_ASSERT(found != streams_.end() && found->get() == &stream);
  spare_.push_back(std::move(*found));  // not destroyed: it may be whose call this is
  streams_.erase(found);
  if (held > 0) give_back_window(nullptr, held);
  if (!streams_.empty()) return relieve();
  active_ms_ = worker_.loop().now_ms();
  set_timer();
  finish_if_drained();
}

void Http2Session::reset(uint32_t id, Http2Error why, bool ours) {
  if (over_) return;
  Http2Stream* stream = find(id);
  const uint64_t opened = stream != nullptr ? stream->opened_ms_ : worker_.loop().now_ms();
  char code[4];
  put(code, static_cast<uint32_t>(why), 4);
  frame_header(sizeof code, kResetFrame, 0, id);
  write({code, sizeof code});
  note_gone(id);
  if (stream != nullptr && !over_) remove(*stream);
  if (ours && !over_) count_reset(opened);
}

void Http2Session::reset(Http2Stream& stream, Http2Error why, bool ours) {
  stream.let_go();
  reset(stream.id_, why, ours);
}

// ---- the end ----

void Http2Session::drain() {
  if (over_ || draining_) return;
  draining_ = true;
  // Streams that the client opens before it hears this are still served (RFC 9113 §6.8).
  go_away(kStreamIdMax, Http2Error::kNone);
  frame_header(kDrainPing.size(), kPingFrame, 0, 0);
  write(kDrainPing);
  drain_at_ms_ = worker_.loop().now_ms() + worker_.context().times.drain;
  set_timer();
}

void Http2Session::finish_if_drained() {
  if (over_ || !refusing_ || !streams_.empty()) return;
  over_ = true;
  linger();
}

void Http2Session::set_timer() {
  if (over_) return;
  const Times& times = worker_.context().times;
  uint64_t due = drain_at_ms_;
  if (!settings_heard_) due = std::min(due, active_ms_ + times.header);
  if (block_stream_ != 0) due = std::min(due, block_begun_ms_ + times.header);
  if (streams_.empty()) due = std::min(due, active_ms_ + times.keep_alive_client);
  for (const Http2Stream* stream : sending_) {
    if (stream == nullptr) continue;
    // Looked at more often: buffers may have become scarce.
    due = std::min(
        {due, stream->moved_ms_ + times.stall, worker_.loop().now_ms() + kHttp2StallScarceMs});
  }
  worker_.loop().set_timer(connection_, due);
}

void Http2Session::note_gone(uint32_t id) { gone_[gone_next_++ % gone_.size()] = id; }

void Http2Session::on_timer() {
  if (over_) return;
  const Times& times = worker_.context().times;
  const uint64_t now = worker_.loop().now_ms();
  if ((!settings_heard_ && now >= active_ms_ + times.header) ||
      (block_stream_ != 0 && now >= block_begun_ms_ + times.header)) {
    return end(Http2Error::kEnhanceYourCalm);
  }
  if (now >= drain_at_ms_) {
    drain_at_ms_ = kNeverDrain;
    refusing_ = true;
    go_away(last_stream_, Http2Error::kNone);
    finish_if_drained();
  }
  // A client that takes nothing of what it asked for.
  std::vector<uint32_t> stalled;
  const uint64_t patience =
      worker_.buffers().scarce() ? std::min(times.stall, kHttp2StallScarceMs) : times.stall;
  for (const Http2Stream* stream : sending_) {
    if (stream != nullptr && now >= stream->moved_ms_ + patience) stalled.push_back(stream->id_);
  }
  for (const uint32_t id : stalled) {
    if (Http2Stream* stream = find(id); stream != nullptr)
      reset(*stream, Http2Error::kCancel, false);
  }
  if (!over_ && streams_.empty() && now >= active_ms_ + times.keep_alive_client) {
    go_away(last_stream_, Http2Error::kNone);
    over_ = true;
    linger();
  }
  set_timer();
}

}  // namespace hob::edge
