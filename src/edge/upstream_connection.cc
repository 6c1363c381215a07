#include "edge/upstream_connection.h"

#include <cerrno>
#include <cstdio>
#include <utility>

#include "edge/exchange.h"

namespace hob::edge {

UpstreamConnection::UpstreamConnection(Worker& worker, std::shared_ptr<Target> target)
    : Socket(worker.loop()), worker_(worker), target_(std::move(target)) {
  worker_.mutable_counts().upstream_connections.add();
}

void UpstreamConnection::open() {
  // Buffer by buffer, so that a slow client stops it exactly; measured, this costs no more than a
  // multishot receive.
  loop_.set_bulk(*this, true);
  loop_.connect(*this, target_->shared->address);
  loop_.set_timer(*this, loop_.now_ms() + worker_.context().times.connect);
}

void UpstreamConnection::begin(Exchange& exchange) {
  exchange_ = &exchange;
  reused_ = connected_;
  heard_ = false;
  in_body_ = false;
  if (connected_) loop_.set_timer(*this, kNever);
}

bool UpstreamConnection::send_head(const Chain& head) {
  chunked_request_ = exchange_->facts().framing == http::Framing::kChunked;
  out().share(head);
  if (connected_) loop_.flush(*this);
  return true;
}

void UpstreamConnection::send_body(const Chain& data) {
  BufferPool& pool = worker_.buffers();
  if (chunked_request_) {
    char line[24];
    const int size = std::snprintf(line, sizeof line, "%zx\r\n", data.bytes());
    out().append(pool, std::string_view(line, static_cast<size_t>(size)));
    out().share(data);
    out().append(pool, "\r\n");
  } else {
    out().share(data);
  }
  if (connected_) loop_.flush(*this);
}

void UpstreamConnection::send_end(std::string_view trailers) {
  if (tunnel_) {
    loop_.shut(*this);
  } else if (chunked_request_) {
    BufferPool& pool = worker_.buffers();
    out().append(pool, "0\r\n");
    out().append(pool, trailers);
    out().append(pool, "\r\n");
    if (connected_) loop_.flush(*this);
  }
}

void UpstreamConnection::on_connected(int error) {
  if (error != 0) {
    if (exchange_ != nullptr) exchange_->upstream_connect_failed(error == ETIMEDOUT);
    close();
    return;
  }
  connected_ = true;
  loop_.set_timer(*this, kNever);
  if (exchange_ == nullptr) {
    close();
    return;
  }
  loop_.read(*this);
  exchange_->upstream_connected();
}

void UpstreamConnection::on_timer() {
  if (!connected_) {
    if (exchange_ != nullptr) exchange_->upstream_connect_failed(true);
    close();
  } else if (exchange_ == nullptr) {
    close();  // idle for long enough
  }
}

void UpstreamConnection::on_data(Slice data) {
  // An idle connection that speaks is out of step.
  if (exchange_ == nullptr) {
    close();
    return;
  }
  heard_ = true;
  while (!data.empty() && exchange_ != nullptr) {
    if (in_body_ ? !read_body(data) : !parse_head(data)) return;
  }
}

bool UpstreamConnection::parse_head(Slice& data) {
  http::ResponseHead& head = worker_.fresh_response_head();
  const std::string_view method = exchange_->facts().head_method ? "HEAD" : "GET";
  const size_t before = partial_.size();
  std::string_view raw = data.view();
  if (before > 0) {
    partial_.append(data.view());
    raw = partial_;
  }
  const http::Parsed parsed = http::parse(raw, head, method);
  if (parsed == http::Parsed::kMore) {
    if (before == 0) partial_.assign(data.view());
    data.reset();
    return true;
  }
  if (parsed == http::Parsed::kBad) {
    exchange_->upstream_lost(Refusal::kBadResponse);
    return false;
  }
  data.skip(head.bytes - before);
  const bool interim = head.code < 200 && head.code != 101;
  if (!interim) {
    in_body_ = true;
    framing_ = head.framing;
    left_ = head.content_length;
    keep_alive_ = head.keep_alive;
    tunnel_ = head.code == 101;
    if (framing_ == http::Framing::kChunked) chunked_.reset();
  }
  exchange_->upstream_head(head, raw.substr(0, head.bytes));
  if (before > 0) partial_.clear();
  if (exchange_ == nullptr) return false;
  if (!interim && !tunnel_ && framing_ == http::Framing::kNone) {
    if (!data.empty()) keep_alive_ = false;
    answer_complete({});
    return false;
  }
  return true;
}

bool UpstreamConnection::read_body(Slice& data) {
  if (tunnel_ || framing_ == http::Framing::kUntilClose) {
    exchange_->upstream_body(std::move(data));
    return true;
  }
  if (framing_ == http::Framing::kLength) {
    const size_t count = static_cast<size_t>(std::min<uint64_t>(left_, data.size()));
    left_ -= count;
    if (count == data.size()) {
      exchange_->upstream_body(std::move(data));
    } else {
      // Bytes after the answer that nobody asked for: this connection is out of step.
      keep_alive_ = false;
      exchange_->upstream_body(data.part(0, count));
    }
    if (exchange_ == nullptr) return false;
    if (left_ > 0) return true;
    answer_complete({});
    return false;
  }
  const ChunkedBody::Step step = chunked_.next(data.view());
  switch (step.outcome) {
    case ChunkedBody::Outcome::kMore:
      data.reset();
      return true;
    case ChunkedBody::Outcome::kData:
      exchange_->upstream_body(data.part(step.skip, step.data));
      data.skip(step.skip + step.data);
      return exchange_ != nullptr;
    case ChunkedBody::Outcome::kEnd:
      if (step.skip < data.size()) keep_alive_ = false;
      answer_complete(chunked_.trailers());
      return false;
    case ChunkedBody::Outcome::kBad:
      exchange_->upstream_lost(Refusal::kBadResponse);
      return false;
  }
  return false;
}

void UpstreamConnection::answer_complete(std::string_view trailers) {
  Exchange* exchange = std::exchange(exchange_, nullptr);
  in_body_ = false;
  // Kept only when both sides agree where the next message begins: all of the request is on its
  // way.
  if (keep_alive_ && exchange->request_ended() && !tunnel_) {
    if (paused_) resume_reading();
    worker_.keep_idle(*this);
  } else {
    close();
  }
  exchange->upstream_end(trailers);
}

void UpstreamConnection::on_end(int error) {
  if (exchange_ == nullptr) {
    close();
    return;
  }
  if (in_body_ && error == 0 && (tunnel_ || framing_ == http::Framing::kUntilClose)) {
    keep_alive_ = false;
    answer_complete({});
    return;
  }
  exchange_->upstream_lost(Refusal::kTargetClosed);
}

void UpstreamConnection::on_sent() {
  if (exchange_ != nullptr) exchange_->upstream_drained();
}

void UpstreamConnection::pause_reading() {
  if (paused_) return;
  paused_ = true;
  loop_.pause(*this);
}

void UpstreamConnection::resume_reading() {
  if (!paused_) return;
  paused_ = false;
  loop_.read(*this);
}

void UpstreamConnection::abandon() {
  exchange_ = nullptr;
  close();
}

void UpstreamConnection::close() {
  if (closing()) return;
  if (idle_) {
    idle_ = false;
    worker_.forget_idle(*this);
  }
  if (Exchange* exchange = std::exchange(exchange_, nullptr); exchange != nullptr) {
    exchange->upstream_lost(Refusal::kTargetClosed);
  }
  loop_.close(*this);
}

void UpstreamConnection::on_released() {
  worker_.mutable_counts().upstream_connections.subtract();
  delete this;
}

}  // namespace hob::edge
