#include "edge/http2_connection.h"

#include <algorithm>
#include <utility>

#include "edge/worker.h"

namespace hob::edge {

using namespace http2;

Http2Connection::Http2Connection(Worker& worker, Socket& socket, Http2End& end, Http2Rules rules)
    : worker_(worker),
      loop_(worker.loop()),
      pool_(worker.buffers()),
      socket_(socket),
      out_(socket.out()),
      end_(end),
      rules_(rules),
      budget_(worker.loop().now_ms()) {}

Http2Connection::~Http2Connection() = default;

void Http2Connection::open(std::string_view settings) {
  written(writer().frame(kSettings, 0, 0, settings));
  window_update(0, kHttp2ConnectionWindow - kHttp2DefaultWindow);
  receive_window_ = kHttp2ConnectionWindow;
}

void Http2Connection::stop() {
  over_ = true;
  reader_.stop();
  for (const auto& flow : flows_) {
    flow->held.clear();
    flow->body.clear();
  }
}

void Http2Connection::end(Http2Error why) {
  if (over_) return;
  go_away(last_stream_, why);
  if (over_) return;
  stop();
  end_.connection_ended();
}

// ---- reading ----

void Http2Connection::read(Slice& data) {
  settle();
  reader_.read(data);
}

void Http2Connection::sent() {
  settle();
  send_all();
}

void Http2Connection::settle() {
  for (auto& flow : removed_) {
    if (spare_.size() < kHttp2SpareStreams) spare_.push_back(std::move(flow));
  }
  removed_.clear();
}

void Http2Connection::data_begins(const Http2Frame& frame) {
  if (is_idle(frame.stream)) return end(Http2Error::kProtocol);
  if (frame.length > receive_window_) return end(Http2Error::kFlowControl);
  receive_window_ -= frame.length;
  Http2Flow* flow = find(frame.stream);
  if (flow == nullptr) {
    if (!was_reset(frame.stream)) reset(frame.stream, Http2Error::kStreamClosed, true);
  } else if (flow->remote_ended) {
    end_.take_reset(*flow, static_cast<uint32_t>(Http2Error::kStreamClosed));
    reset(frame.stream, Http2Error::kStreamClosed, true);
  } else if (frame.length > flow->receive_window) {
    end_.take_reset(*flow, static_cast<uint32_t>(Http2Error::kFlowControl));
    reset(frame.stream, Http2Error::kFlowControl, true);
  } else {
    flow->receive_window -= frame.length;
  }
  if (!over_ && frame.length == 0 && (frame.flags & kEndStream) == 0) spend(1);
}

void Http2Connection::take_padding(uint32_t stream, size_t bytes) {
  // It fills windows as data does, and nobody waits for it.
  if (rules_.give_back_at_once) give_back_connection(bytes);
  give_back(find(stream), bytes);
}

void Http2Connection::take_data(uint32_t stream, Slice data) {
  Http2Flow* flow = find(stream);
  const size_t bytes = data.size();
  if (rules_.give_back_at_once) give_back_connection(bytes);
  if (flow == nullptr) return give_back(nullptr, bytes);
  if (flow->has_received_length) {
    if (bytes > flow->received_left) {
      give_back(nullptr, bytes);
      end_.take_reset(*flow, static_cast<uint32_t>(Http2Error::kProtocol));
      return reset(stream, Http2Error::kProtocol, true);
    }
    flow->received_left -= bytes;
  }
  end_.take_data(*flow, std::move(data));
}

void Http2Connection::data_ends(const Http2Frame& frame) {
  if ((frame.flags & kEndStream) == 0) return;
  Http2Flow* flow = find(frame.stream);
  if (flow == nullptr) return;
  flow->remote_ended = true;
  end_.take_end(*flow);
}

void Http2Connection::take_block(uint32_t stream, bool end_stream, std::string_view block) {
  end_.take_block(stream, end_stream, block);
}

void Http2Connection::take_frame(const Http2Frame& frame, std::string_view payload) {
  switch (frame.type) {
    case kReset:
      return take_reset(frame, payload);
    case kSettings:
      return take_settings(frame, payload);
    case kPing:
      return take_ping(frame, payload);
    case kWindowUpdate:
      return take_window_update(frame, payload);
    case kGoAway:
      return take_go_away(frame, payload);
    case kPriorityFrame:  // an advice that RFC 9113 has given up
      if (frame.stream == 0) return end(Http2Error::kProtocol);
      if (frame.length != 5) return end(Http2Error::kFrameSize);
      spend(1);
      return;
    case kPushPromise:  // we never push, and have told targets not to
      return end(Http2Error::kProtocol);
    default:  // kinds that are not known (RFC 9113 §4.1)
      spend(1);
  }
}

void Http2Connection::take_reset(const Http2Frame& frame, std::string_view payload) {
  if (frame.length != 4) return end(Http2Error::kFrameSize);
  if (frame.stream == 0 || is_idle(frame.stream)) return end(Http2Error::kProtocol);
  Http2Flow* flow = find(frame.stream);
  if (flow == nullptr) {
    spend(1);
    return;
  }
  const uint64_t opened = flow->opened_ms;
  // What it cost ends with it, before its place is given to another.
  end_.take_reset(*flow, number(payload));
  if (!over_ && !flow->gone) remove(*flow);
  if (!over_) count_reset(opened);
}

void Http2Connection::take_settings(const Http2Frame& frame, std::string_view payload) {
  if (frame.stream != 0) return end(Http2Error::kProtocol);
  if ((frame.flags & kAck) != 0) {
    if (frame.length != 0) return end(Http2Error::kFrameSize);
    spend(1);
    return;
  }
  if (frame.length % 6 != 0) return end(Http2Error::kFrameSize);
  if (!spend(1)) return;
  for (; !payload.empty(); payload.remove_prefix(6)) {
    const uint32_t value = number(payload.substr(2, 4));
    const auto setting = static_cast<uint16_t>(number(payload.substr(0, 2)));
    switch (setting) {
      case kEnablePush:
      case kEnableConnectProtocol:
        if (value > 1) return end(Http2Error::kProtocol);
        break;
      case kMaxFrameSize:  // never below what we send
        if (value < kHttp2FrameBytesMax || value > 0xffffff) return end(Http2Error::kProtocol);
        break;
      case kInitialWindowSize: {
        if (value > kHttp2WindowLimit) return end(Http2Error::kFlowControl);
        const int64_t change = int64_t{value} - int64_t{peer_window_};
        peer_window_ = value;
        for (const auto& flow : flows_) {
          flow->send_window += change;
          if (flow->send_window > kHttp2WindowLimit) return end(Http2Error::kFlowControl);
        }
        break;
      }
      default:
        break;
    }
    end_.take_setting(setting, value);
    if (over_) return;
  }
  written(writer().frame(kSettings, kAck, 0, {}));
  end_.settings_taken();
  send_all();
}

void Http2Connection::take_ping(const Http2Frame& frame, std::string_view payload) {
  if (frame.stream != 0) return end(Http2Error::kProtocol);
  if (frame.length != 8) return end(Http2Error::kFrameSize);
  if ((frame.flags & kAck) != 0) {
    if (!end_.take_pong(payload)) spend(1);
    return;
  }
  if (spend(1)) ping(payload, true);
}

void Http2Connection::take_window_update(const Http2Frame& frame, std::string_view payload) {
  if (frame.length != 4) return end(Http2Error::kFrameSize);
  if (frame.stream != 0 && is_idle(frame.stream)) return end(Http2Error::kProtocol);
  if (!spend(1)) return;
  const uint32_t increment = number(payload) & kHttp2StreamIdMax;
  if (frame.stream == 0) {
    if (increment == 0) return end(Http2Error::kProtocol);
    send_window_ += increment;
    if (send_window_ > kHttp2WindowLimit) return end(Http2Error::kFlowControl);
    send_all();
    return;
  }
  Http2Flow* flow = find(frame.stream);
  if (flow == nullptr) return;
  flow->send_window += increment;
  if (increment == 0 || flow->send_window > kHttp2WindowLimit) {
    const Http2Error why = increment == 0 ? Http2Error::kProtocol : Http2Error::kFlowControl;
    end_.take_reset(*flow, static_cast<uint32_t>(why));
    return reset(frame.stream, why, true);
  }
  if (flow->sending) send_all();
}

void Http2Connection::take_go_away(const Http2Frame& frame, std::string_view payload) {
  if (frame.stream != 0) return end(Http2Error::kProtocol);
  if (frame.length < 8) return end(Http2Error::kFrameSize);
  if (!spend(1)) return;
  end_.take_go_away(number(payload.substr(0, 4)) & kHttp2StreamIdMax, number(payload.substr(4, 4)));
}

void Http2Connection::give_back_connection(size_t bytes) {
  taken_ += static_cast<uint32_t>(bytes);
  if (taken_ < kHttp2ConnectionWindow / 2) return;
  window_update(0, taken_);
  receive_window_ += taken_;
  taken_ = 0;
}

void Http2Connection::give_back(Http2Flow* flow, size_t bytes) {
  if (over_) return;
  if (!rules_.give_back_at_once) give_back_connection(bytes);
  if (flow == nullptr || flow->remote_ended || over_) return;
  flow->taken += static_cast<uint32_t>(bytes);
  if (flow->taken < flow->window_size / 2) return;
  // What comes is taken: the peer may send more at a time.
  const uint32_t room = rules_.window_max - flow->window_size;
  const uint32_t growth = flow->held.empty() ? std::min(flow->window_size, room) : 0;
  flow->window_size += growth;
  window_update(flow->id, flow->taken + growth);
  flow->receive_window += flow->taken + growth;
  flow->taken = 0;
}

// ---- what is counted ----

bool Http2Connection::spend(int cost) {
  if (budget_.spend(cost, loop_.now_ms())) return true;
  end(Http2Error::kEnhanceYourCalm);
  return false;
}

bool Http2Connection::count_reset(uint64_t opened_ms) {
  if (!rules_.count_resets || budget_.count_reset(opened_ms, loop_.now_ms())) return true;
  end(Http2Error::kEnhanceYourCalm);
  return false;
}

// ---- writing ----

std::string& Http2Connection::fresh_block() {
  std::string& block = worker_.block_scratch();
  block.clear();
  if (!no_table_told_) block = kHpackNoTable;
  no_table_told_ = true;
  return block;
}

void Http2Connection::written(bool whole) {
  if (socket_.closing()) return;
  if (!whole || socket_.unsent() > kHttp2UnsentBytesMax) {
    end_.connection_broken();
    return;
  }
  loop_.flush(socket_);
}

void Http2Connection::send_block(Http2Flow& flow, std::string_view block, bool end_stream) {
  if (over_) return;
  if (end_stream) flow.end_sent = true;
  written(writer().block(flow.id, block, end_stream));
}

void Http2Connection::go_away(uint32_t last, Http2Error why) {
  written(writer().go_away(last, why));
}

void Http2Connection::ping(std::string_view payload, bool answer) {
  written(writer().frame(kPing, answer ? kAck : 0, 0, payload));
}

bool Http2Connection::send_body(Http2Flow& flow, Slice data) {
  if (over_) return false;
  const size_t bytes = data.size();
  if (flow.has_body_length) flow.body_left -= bytes;
  if (!flow.body.append(pool_, std::move(data))) {
    end_.connection_broken();
    return false;
  }
  queued_ += bytes;
  LoopCount& peak = worker_.mutable_counts().queued_peak_bytes;
  if (flow.body.bytes() > peak.value()) peak.add(flow.body.bytes() - peak.value());
  send(flow);
  return true;
}

void Http2Connection::end_body(Http2Flow& flow) {
  if (flow.end_sent) return;
  flow.body_ended = true;
  send(flow);
}

size_t Http2Connection::backlog(const Http2Flow& flow) const {
  const bool full = queued_ >= queued_max();
  was_full_ = was_full_ || full;
  return flow.body.bytes() + (full ? kQueuedBytesHigh : 0);
}

bool Http2Connection::send_one(Http2Flow& flow) {
  Chain& body = flow.body;
  if (body.empty()) {
    if (!flow.body_ended || flow.end_sent) return false;
    flow.end_sent = true;
    if (flow.last_block.empty()) {
      written(writer().header(0, kData, kEndStream, flow.id));
    } else {
      written(writer().block(flow.id, flow.last_block, true));
    }
    return true;
  }
  const int64_t window = std::min(flow.send_window, send_window_);
  if (window <= 0 || !has_room()) return false;
  const size_t count =
      std::min({body.bytes(), static_cast<size_t>(window), size_t{kHttp2FrameBytesMax}});
  const bool last = count == body.bytes() && flow.last_block.empty() &&
                    (flow.body_ended || (flow.has_body_length && flow.body_left == 0));
  flow.send_window -= static_cast<int64_t>(count);
  send_window_ -= static_cast<int64_t>(count);
  queued_ -= count;
  flow.moved_ms = loop_.now_ms();
  flow.end_sent = last;
  // Short because there is no more, and not because the peer makes us send it in crumbs.
  if (count == body.bytes() || count >= kHttp2UsefulDataBytes) budget_.earn(kHttp2EarnedByData);
  written(writer().data(flow.id, body, count, last));
  return !over_;
}

// There is more of its body, or the end of it.
void Http2Connection::send(Http2Flow& flow) {
  if (over_ || flow.sending) return;
  // Who waits already comes first.
  while (sending_.empty() && send_one(flow)) {
  }
  if (over_ || (flow.body.empty() && (!flow.body_ended || flow.end_sent))) return;
  flow.sending = true;
  flow.moved_ms = loop_.now_ms();
  sending_.push_back(&flow);
  if (sending_.size() == 1) end_.sending_begins();
  // Those before it may wait for windows, and then no byte's leaving says that it is its turn.
  if (socket_.unsent() == 0) send_later();
}

void Http2Connection::send_later() {
  if (std::exchange(sending_later_, true)) return;
  loop_.post([this, alive = std::weak_ptr(alive_)] {
    if (alive.expired()) return;
    sending_later_ = false;
    send_all();
  });
}

// A frame of each in turn, while the socket takes them.
void Http2Connection::send_all() {
  if (sending_all_ || over_) return;
  sending_all_ = true;
  for (size_t idle = 0; idle < sending_.size() && has_room() && !over_;) {
    Http2Flow*& place = sending_[turn_++ % sending_.size()];
    Http2Flow* flow = place;
    if (flow == nullptr || !send_one(*flow)) {
      ++idle;
      continue;
    }
    idle = 0;
    end_.flow_moved(*flow);
    if (over_ || place != flow) continue;
    if (!flow->body.empty() || (flow->body_ended && !flow->end_sent)) continue;
    place = nullptr;
    flow->sending = false;
    end_.flow_sent(*flow);
  }
  std::erase(sending_, nullptr);
  sending_all_ = false;
  relieve();
}

size_t Http2Connection::queued_max() const {
  return pool_.scarce() ? kHttp2QueuedBytesScarce : kHttp2QueuedBytesMax;
}

void Http2Connection::relieve() {
  if (over_ || !was_full_ || queued_ >= queued_max()) return;
  was_full_ = false;
  for (size_t i = 0; i < flows_.size(); ++i) end_.flow_moved(*flows_[i]);
}

// ---- streams ----

bool Http2Connection::is_idle(uint32_t id) const { return id > last_stream_ || id % 2 == 0; }

Http2Flow* Http2Connection::find(uint32_t id) {
  if (over_) return nullptr;
  const auto found =
      std::ranges::lower_bound(flows_, id, {}, [](const auto& flow) { return flow->id; });
  return found != flows_.end() && (*found)->id == id ? found->get() : nullptr;
}

Http2Flow& Http2Connection::open_flow(uint32_t id) {
  if (spare_.empty()) spare_.push_back(end_.make_flow());
  flows_.push_back(std::move(spare_.back()));
  spare_.pop_back();
  last_stream_ = id;
  Http2Flow& flow = *flows_.back();
  flow.id = id;
  flow.send_window = peer_window_;
  flow.receive_window = flow.window_size = kHttp2DefaultWindow;
  flow.taken = 0;
  flow.received_left = flow.body_left = 0;
  flow.opened_ms = loop_.now_ms();
  flow.has_received_length = flow.has_body_length = flow.remote_ended = flow.body_ended =
      flow.end_sent = flow.gone = false;
  return flow;
}

void Http2Connection::remove(Http2Flow& flow) {
  queued_ -= flow.body.bytes();
  flow.body.clear();
  const size_t held = flow.held.bytes();
  flow.held.clear();
  flow.last_block.clear();
  flow.gone = true;
  if (flow.sending) {
    flow.sending = false;
    const auto place = std::ranges::find(sending_, &flow);
    if (sending_all_) {
      *place = nullptr;
    } else {
      sending_.erase(place);
    }
  }
  const auto found =
      std::ranges::lower_bound(flows_, flow.id, {}, [](const auto& other) { return other->id; });
  HOB_ASSERT(found != flows_.end() && found->get() == &flow);
  if (!was_reset(flow.id)) ended_[ended_next_++ % ended_.size()] = flow.id;
  removed_.push_back(std::move(*found));
  flows_.erase(found);
  if (held > 0) give_back(nullptr, held);
  if (over_) return;
  if (!flows_.empty()) relieve();
  end_.flow_removed();
}

void Http2Connection::reset(uint32_t id, Http2Error why, bool count) {
  if (over_) return;
  Http2Flow* flow = find(id);
  const uint64_t opened = flow != nullptr ? flow->opened_ms : loop_.now_ms();
  written(writer().reset(id, why));
  note_reset(id);
  if (flow != nullptr && !over_) remove(*flow);
  if (count && !over_) count_reset(opened);
}

bool Http2Connection::was_reset(uint32_t id) const {
  return std::ranges::find(reset_, id) != reset_.end();
}

bool Http2Connection::has_ended(uint32_t id) const {
  return std::ranges::find(ended_, id) != ended_.end();
}

}  // namespace hob::edge
