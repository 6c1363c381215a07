#include "edge/client_connection.h"

#include <arpa/inet.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "edge/admission.h"
#include "edge/http2_session.h"
#include "edge/rewrite.h"
#include "edge/tls.h"

namespace hob::edge {
namespace {

constexpr size_t kHttp2PrefaceLine = 16;  // enough to tell

// How a client begins that knows it will be understood (RFC 9113 §3.4).
bool begins_http2(std::string_view raw) {
  const std::string_view begin = raw.substr(0, kHttp2Preface.size());
  return begin.size() >= kHttp2PrefaceLine && kHttp2Preface.starts_with(begin);
}

}  // namespace

ClientConnection::ClientConnection(Worker& worker, size_t listener)
    : Socket(worker.loop()), worker_(worker), listener_(static_cast<uint8_t>(listener)) {
  worker.enter(*this);
}

ClientConnection::~ClientConnection() = default;

void ClientConnection::open(int fd) {
  const Times& times = worker_.context().times;
  uint64_t wait = times.keep_alive_client;
  if (listener_ >= worker_.context().tls_from) {
    auto filter = std::make_unique<TlsFilter>(*this, loop_, worker_.certificates(), worker_.acme());
    tls_ = filter.get();
    set_filter(std::move(filter));
    worker_.begin_handshake(*this);
    wait = times.handshake;
  }
  loop_.adopt(*this, fd);
  loop_.read(*this);
  loop_.set_timer(*this, loop_.now_ms() + patience(wait));
}

uint64_t ClientConnection::patience(uint64_t usual) const {
  return worker_.draining() == Draining::kStop ? std::min(usual, worker_.context().times.drain)
                                               : usual;
}

void ClientConnection::on_secured() {
  worker_.end_handshake(*this);
  if (tls_->answers_acme()) {
    // The handshake was the answer.
    linger();
    return;
  }
  if (tls_->protocol() == "h2") {
    begin_http2({});
    return;
  }
  loop_.set_timer(*this, loop_.now_ms() + patience(worker_.context().times.keep_alive_client));
}

// `read`: what of it has come already.
void ClientConnection::begin_http2(Chain read) {
  state_ = State::kHttp2;
  http2_ = std::make_unique<Http2Session>(worker_, *this);
  http2_->open();
  while (!read.empty() && !closing()) http2_->received(read.take_first());
  if (worker_.draining() != Draining::kNo && !closing()) http2_->drain();
}

void ClientConnection::on_released() {
  worker_.leave(*this);
  delete this;
}

void ClientConnection::close() {
  if (closing()) return;
  worker_.end_handshake(*this);
  if (http2_ != nullptr) http2_->cancel();
  if (exchange_ != nullptr) {
    exchange_->cancel();
    worker_.give_back(std::move(exchange_));
  }
  input_.clear();
  loop_.close(*this);
}

void ClientConnection::drain() {
  if (state_ == State::kHttp2) {
    http2_->drain();
    return;
  }
  const bool told = exchange_ != nullptr && answer_begun_;  // that it may send another request
  if (worker_.draining() == Draining::kHandOver) {
    if (exchange_ != nullptr && !told) keep_alive_ = false;
    return;
  }
  keep_alive_ = false;
  if (state_ != State::kIdle || unsent() > 0) return;
  if (fresh_) {
    // Somebody is about to send the first request of a connection that we have accepted.
    loop_.set_timer(*this, loop_.now_ms() + worker_.context().times.drain);
  } else {
    close();
  }
}

void ClientConnection::abort() { close(); }

// ---- input ----

void ClientConnection::on_data(Slice data) {
  if (state_ == State::kLinger) {
    if (data.size() >= left_) {
      close();
    } else {
      left_ -= data.size();
    }
    return;
  }
  if (state_ == State::kHttp2) {
    http2_->received(std::move(data));
    return;
  }
  if (processing_ || !input_.empty()) {
    input_.append(worker_.buffers(), std::move(data));
    if (!processing_) process_input();
  } else {
    process(data);
    if (closing()) return;
    if (!data.empty()) input_.append(worker_.buffers(), std::move(data));
  }
  // What waits here is a pipelined request, or a body that its target does not take: let the client
  // wait too.
  if (!closing() && !input_.empty() && !paused_) {
    paused_ = true;
    loop_.set_bulk(*this, true);
    loop_.pause(*this);
  }
}

void ClientConnection::process_input() {
  while (!input_.empty() && !processing_ && !closing()) {
    Slice data = input_.take_first();
    const size_t before = data.size();
    process(data);
    if (closing()) return;
    if (!data.empty()) {
      const bool stuck = data.size() == before;
      Chain rest;
      rest.append(worker_.buffers(), std::move(data));
      rest.splice(input_);
      input_ = std::move(rest);
      if (stuck || !input_.empty()) return;
    }
  }
  if (peer_ended_ && input_.empty() && !closing()) input_ended();
  if (paused_ && input_.empty() && !closing() && state_ != State::kWait) {
    paused_ = false;
    loop_.read(*this);
  }
}

void ClientConnection::process(Slice& data) {
  processing_ = true;
  while (!data.empty() && !closing()) {
    if (state_ == State::kIdle || state_ == State::kHead) {
      if (!read_head(data)) break;
    } else if (state_ == State::kBody) {
      if (!read_body(data)) break;
    } else if (state_ == State::kLinger) {
      data.reset();
    } else {
      break;
    }
  }
  processing_ = false;
}

bool ClientConnection::read_head(Slice& data) {
  if (state_ == State::kIdle) {
    state_ = State::kHead;
    // Absolute: bytes that trickle in do not put it off.
    loop_.set_timer(*this, loop_.now_ms() + worker_.context().times.header);
  }
  http::RequestHead& head = worker_.fresh_request_head();
  const size_t before = partial_.size();
  std::string_view raw = data.view();
  if (before > 0) {
    partial_.append(data.view());
    raw = partial_;
  }
  const http::Parsed parsed = http::parse(raw, head);
  if (parsed == http::Parsed::kMore) {
    if (before == 0) partial_.assign(data.view());
    data.reset();
    return true;
  }
  if (parsed == http::Parsed::kBad && fresh_ && tls_ == nullptr && begins_http2(raw)) {
    Chain read;
    const bool whole = read.append(worker_.buffers(), raw);
    partial_ = std::string();
    data.reset();
    if (whole) {
      begin_http2(std::move(read));
    } else {
      close();
    }
    return false;
  }
  if (parsed == http::Parsed::kBad) {
    data.reset();
    keep_alive_ = false;
    minor_one_ = true;
    asker_ = {};
    worker_.mutable_counts().refused.add();
    answer_refusal(Refusal::kBadRequest, head.status);
    return false;
  }
  data.skip(head.bytes - before);
  loop_.set_timer(*this, kNever);
  raw = raw.substr(head.head_start, head.bytes - head.head_start);
  begin_request(raw);
  if (before > 0) {
    partial_.clear();
    if (partial_.capacity() > 4096) partial_.shrink_to_fit();
  }
  return true;
}

std::string_view ClientConnection::forwarded_lines() {
  if (forwarded_size_ == 0) {
    sockaddr_in peer{};
    socklen_t size = sizeof peer;
    char address[INET_ADDRSTRLEN] = "unknown";
    if (::getpeername(fd(), reinterpret_cast<sockaddr*>(&peer), &size) == 0 &&
        peer.sin_family == AF_INET) {
      ::inet_ntop(AF_INET, &peer.sin_addr, address, sizeof address);
    }
    const int written = std::snprintf(
        forwarded_.data(), forwarded_.size(),
        "X-Forwarded-For: %s\r\nX-Forwarded-Proto: %s\r\nX-Forwarded-Port: %u\r\n", address,
        tls_ != nullptr ? "https" : "http", unsigned{worker_.port(listener_)});
    forwarded_size_ = static_cast<uint8_t>(written);
  }
  return {forwarded_.data(), forwarded_size_};
}

// A whole head has been parsed into the worker's scratch; its bytes are `raw`. False: it was
// refused.
bool ClientConnection::begin_request(std::string_view raw) {
  const http::RequestHead& head = worker_.request_head();
  fresh_ = false;
  minor_one_ = head.minor == 1;
  last_ = !head.keep_alive;
  keep_alive_ = head.keep_alive && worker_.draining() == Draining::kNo && !peer_ended_;
  asker_ = asker_of(head);
  framing_ = head.framing;
  left_ = head.content_length;
  answer_begun_ = false;
  tunnel_ = false;
  state_ = State::kBody;
  if (framing_ == http::Framing::kChunked) chunked_ = std::make_unique<ChunkedBody>();
  if (framing_ == http::Framing::kChunked || left_ > 2 * kBufferBytes) {
    // Much to come: from now on buffer by buffer, so that a target that does not read it stops it
    // exactly.
    loop_.set_bulk(*this, true);
    loop_.pause(*this);
    loop_.read(*this);
  }
  const Origin origin{
      .forwarded = forwarded_lines(), .version = minor_one_ ? "HTTP/1.1" : "HTTP/1.0", .tls = tls_};
  Admission admission = admit(worker_, raw, origin);
  if (admission.exchange == nullptr) {
    // Its body would be read as the next request.
    if (framing_ != http::Framing::kNone || admission.status == 400 || admission.status == 503)
      keep_alive_ = false;
    answer_refusal(admission.why, admission.status);
    return false;
  }
  exchange_ = std::move(admission.exchange);
  const RequestFacts& facts = admission.facts;
  exchange_->start(*this, std::move(admission.service), facts, head.content_length);
  if (exchange_ != nullptr && framing_ == http::Framing::kNone && !facts.upgrade)
    request_complete({});
  return true;
}

bool ClientConnection::read_body(Slice& data) {
  if (tunnel_) {
    if (!exchange_->wants_body()) return false;
    exchange_->request_body(std::move(data));
    return true;
  }
  if (framing_ == http::Framing::kNone) return false;  // an upgrade is being decided
  if (!exchange_->wants_body()) return false;
  if (framing_ == http::Framing::kLength) {
    const size_t count = static_cast<size_t>(std::min<uint64_t>(left_, data.size()));
    Slice piece = data.part(0, count);
    data.skip(count);
    left_ -= count;
    exchange_->request_body(std::move(piece));
    if (left_ == 0 && exchange_ != nullptr) request_complete({});
    return true;
  }
  const ChunkedBody::Step step = chunked_->next(data.view());
  switch (step.outcome) {
    case ChunkedBody::Outcome::kMore:
      data.reset();
      break;
    case ChunkedBody::Outcome::kData:
      exchange_->request_body(data.part(step.skip, step.data));
      data.skip(step.skip + step.data);
      break;
    case ChunkedBody::Outcome::kEnd:
      data.skip(step.skip);
      request_complete(chunked_->trailers());
      break;
    case ChunkedBody::Outcome::kBad:
      data.reset();
      keep_alive_ = false;
      if (answer_begun_) {
        close();
        return false;
      }
      exchange_->refuse(Refusal::kBadRequest, 400);
      break;
  }
  return true;
}

void ClientConnection::request_complete(std::string_view trailers) {
  state_ = State::kWait;
  exchange_->request_end(trailers);
}

void ClientConnection::body_wanted() {
  if (input_.empty()) {
    if (paused_) {
      paused_ = false;
      loop_.read(*this);
    }
    return;
  }
  process_input();
}

void ClientConnection::on_end(int error) {
  peer_ended_ = true;
  if (state_ == State::kHttp2) {
    close();
    return;
  }
  if (error != 0 || exchange_ == nullptr || state_ == State::kLinger) {
    // What is queued of a last answer may still arrive if only the sending side was closed.
    if (error == 0 && exchange_ == nullptr && unsent() > 0) {
      close_when_sent_ = true;
      return;
    }
    close();
    return;
  }
  keep_alive_ = keep_alive_ && tunnel_;
  if (input_.empty()) input_ended();
}

// All that the client sent has been taken, and there is no more.
void ClientConnection::input_ended() {
  if (exchange_ == nullptr) return;
  if (tunnel_) {
    if (!exchange_->request_ended()) exchange_->request_end({});
    return;
  }
  // It may have closed its sending side only, and wait for the answer; a body cut short is another
  // matter.
  if (state_ == State::kBody && framing_ != http::Framing::kNone) close();
}

void ClientConnection::on_timer() {
  if (state_ == State::kHttp2) {
    http2_->on_timer();
    return;
  }
  if (state_ == State::kHead) {
    keep_alive_ = false;
    worker_.mutable_counts().refused.add();
    answer_refusal(Refusal::kClientTooSlow, 408);
    return;
  }
  close();
}

// ---- the answer ----

void ClientConnection::answer_head(const http::ResponseHead& head, std::string_view raw) {
  BufferPool& pool = worker_.buffers();
  if (head.code < 200 && head.code != 101) {
    if (!minor_one_) return;  // HTTP/1.0 knows no interim answers
    if (!rewrite_response(head, raw, AnswerFraming::kAsIs, Persistence::kDefault, {}, pool, out()))
      close();
    loop_.flush(*this);
    return;
  }
  answer_begun_ = true;
  AnswerFraming framing = AnswerFraming::kAsIs;
  answer_framing_ = head.framing;
  if (head.code == 101) {
    tunnel_ = true;
    keep_alive_ = false;
    state_ = State::kBody;
    answer_framing_ = http::Framing::kUntilClose;
  } else if (head.framing == http::Framing::kChunked ||
             head.framing == http::Framing::kUntilClose) {
    framing = minor_one_ ? AnswerFraming::kChunked : AnswerFraming::kNoLength;
    answer_framing_ = minor_one_ ? http::Framing::kChunked : http::Framing::kUntilClose;
    if (!minor_one_) keep_alive_ = false;
  }
  // An upgrade that was declined: the request was just its head.
  if (head.code != 101 && state_ == State::kBody && framing_ == http::Framing::kNone)
    request_complete({});
  // Answered before all of the request was read: the rest cannot be told from a next request.
  if (!exchange_->request_ended()) keep_alive_ = false;
  const Persistence persistence = !keep_alive_ ? Persistence::kClose
                                  : minor_one_ ? Persistence::kDefault
                                               : Persistence::kKeepAlive;
  if (!rewrite_response(head, raw, framing, persistence, exchange_->answer_lines(), pool, out())) {
    close();
    return;
  }
  loop_.flush(*this);
  // What the client sent on ahead belongs to the tunnel.
  if (tunnel_ && (paused_ || !input_.empty())) process_input();
}

void ClientConnection::answer_body(Slice data) {
  BufferPool& pool = worker_.buffers();
  bool whole = true;
  if (answer_framing_ == http::Framing::kChunked) {
    char line[24];
    const int size = std::snprintf(line, sizeof line, "%zx\r\n", data.size());
    whole &= out().append(pool, std::string_view(line, static_cast<size_t>(size)));
    whole &= out().append(pool, std::move(data));
    whole &= out().append(pool, "\r\n");
  } else {
    whole &= out().append(pool, std::move(data));
  }
  if (!whole) {
    close();
    return;
  }
  LoopCount& peak = worker_.mutable_counts().queued_peak_bytes;
  if (unsent() > peak.value()) peak.add(unsent() - peak.value());
  loop_.flush(*this);
}

void ClientConnection::answer_end(std::string_view trailers) {
  const bool request_ended = exchange_->request_ended();
  worker_.give_back(std::move(exchange_));
  if (answer_framing_ == http::Framing::kChunked) {
    BufferPool& pool = worker_.buffers();
    out().append(pool, "0\r\n");
    out().append(pool, trailers);
    out().append(pool, "\r\n");
    loop_.flush(*this);
  }
  if (tunnel_) {
    // The target has ended; the client may still take what is queued.
    loop_.shut(*this);
    state_ = State::kLinger;
    left_ = kLingerBytesMax;
    loop_.set_timer(*this, loop_.now_ms() + worker_.context().times.linger);
    return;
  }
  if (!request_ended) keep_alive_ = last_ = false;
  finish_answer();
}

void ClientConnection::answer_refusal(Refusal why, int status) {
  last_ = false;
  // A request that is being refused after it was routed has its exchange still; it is over.
  if (exchange_ != nullptr && !exchange_->request_ended()) keep_alive_ = false;
  const Persistence persistence = !keep_alive_ ? Persistence::kClose
                                  : minor_one_ ? Persistence::kDefault
                                               : Persistence::kKeepAlive;
  const std::string page = refusal_page(worker_, exchange_.get(), why, status, asker_, persistence);
  if (exchange_ != nullptr) worker_.give_back(std::move(exchange_));
  if (!out().append(worker_.buffers(), page)) {
    close();
    return;
  }
  loop_.flush(*this);
  finish_answer();
}

void ClientConnection::answer_abort(Refusal) {
  worker_.give_back(std::move(exchange_));
  keep_alive_ = last_ = false;
  if (answer_framing_ != http::Framing::kUntilClose) {
    // Its length says that it is not whole.
    linger();
    return;
  }
  // The end of the connection is the end of the answer: only a reset tells the client that this is
  // not it.
  const ::linger now{.l_onoff = 1, .l_linger = 0};
  ::setsockopt(fd(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
  close();
}

size_t ClientConnection::answer_queued() const { return unsent(); }

void ClientConnection::finish_answer() {
  if (!keep_alive_ || worker_.draining() == Draining::kStop) {
    linger();
    return;
  }
  idle();
}

void ClientConnection::idle() {
  state_ = State::kIdle;
  chunked_.reset();
  loop_.set_timer(*this, loop_.now_ms() + worker_.context().times.keep_alive_client);
  if (peer_ended_ && input_.empty()) {
    linger();
    return;
  }
  loop_.set_bulk(*this, false);
  if (!processing_ && (!input_.empty() || paused_)) process_input();
}

// The last answer is on its way. Closing with unread input would reset the connection and lose the
// answer, so what the client may still send is read and dropped, within bounds; TLS has something
// to say at its end, always.
void ClientConnection::linger() {
  state_ = State::kLinger;
  left_ = kLingerBytesMax;
  const bool nothing_follows = peer_ended_ || (last_ && input_.empty() && tls_ == nullptr);
  input_.clear();
  loop_.shut(*this);
  if (nothing_follows) {
    close_when_sent_ = true;
    if (unsent() == 0) close();
    return;
  }
  if (paused_) {
    paused_ = false;
    loop_.read(*this);
  }
  loop_.set_timer(*this, loop_.now_ms() + worker_.context().times.linger +
                             (unsent() == 0 ? 0 : worker_.context().times.keep_alive_client));
}

void ClientConnection::on_sent() {
  if (exchange_ != nullptr) {
    exchange_->answer_drained();
  } else if (state_ == State::kHttp2) {
    http2_->sent();
  } else if (state_ == State::kLinger && unsent() == 0) {
    if (close_when_sent_) {
      close();
    } else {
      loop_.set_timer(*this, loop_.now_ms() + worker_.context().times.linger);
    }
  }
}

}  // namespace hob::edge
