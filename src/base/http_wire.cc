#include "base/http_wire.h"

#include <sys/socket.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>

namespace hob::http {

namespace asio = boost::asio;
using std::chrono::steady_clock;

namespace {
constexpr size_t kReadBytes = 16 * 1024;
}

// One timer for a connection, set anew only when it fires too early or must fire earlier: a request
// costs no timer. Shared with the timer's handler, which may run after the wire is gone.
struct Wire::Watchdog : std::enable_shared_from_this<Watchdog> {
  explicit Watchdog(const asio::any_io_executor& executor) : timer(executor) {}

  void watch(steady_clock::time_point until) {
    expires = until;
    expired = false;
    if (!running || timer.expiry() > until) start();
  }
  void start() {
    running = true;
    timer.expires_at(expires);
    timer.async_wait([self = shared_from_this()](const boost::system::error_code& error) {
      if (error || self->socket == nullptr) return;  // set anew, or the wire is gone
      self->running = false;
      if (self->expires == steady_clock::time_point::max()) return;  // nothing waits now
      if (steady_clock::now() < self->expires) return self->start();
      self->expired = true;
      boost::system::error_code ignored;
      self->socket->cancel(ignored);
    });
  }

  asio::steady_timer timer;
  Socket* socket = nullptr;
  steady_clock::time_point expires = steady_clock::time_point::max();
  bool running = false;
  bool expired = false;
};

Wire::Wire(Socket socket)
    : socket_(std::move(socket)), watchdog_(std::make_shared<Watchdog>(socket_.get_executor())) {
  watchdog_->socket = &socket_;
}

Wire::~Wire() {
  watchdog_->socket = nullptr;
  watchdog_->timer.cancel();
}

void Wire::arm(Duration idle) {
  steady_clock::time_point until = steady_clock::now() + idle;
  if (deadline_ && *deadline_ < until) until = *deadline_;
  watchdog_->watch(until);
}

Error Wire::error_of(const boost::system::error_code& error, const char* doing) const {
  if (watchdog_->expired)
    return {.code = Code::kTimeout, .message = std::string(doing) + ": took too long"};
  if (interrupted_)
    return {.code = Code::kCancelled, .message = std::string(doing) + ": interrupted"};
  return {.code = Code::kUnavailable, .message = std::string(doing) + ": " + error.message()};
}

void Wire::take(size_t count) {
  taken_ += count;
  if (taken_ == in_.size()) {
    in_.clear();
    taken_ = 0;
  }
}

Async<Result<bool>> Wire::fill(Duration idle) {
  if (interrupted_) co_return fail(Code::kCancelled, "interrupted");
  if (taken_ > 0) {
    in_.erase(0, taken_);
    taken_ = 0;
  }
  const size_t had = in_.size();
  // An idle connection holds no buffer.
  arm(idle);
  boost::system::error_code error;
  if (had == 0) {
    std::string().swap(in_);
    co_await socket_.async_wait(Socket::wait_read,
                                asio::redirect_error(asio::use_awaitable, error));
    co_await throw_if_cancelled();
    if (error) co_return fail(error_of(error, "waiting for the peer"));
  }
  in_.resize(had + kReadBytes);
  const size_t got = co_await socket_.async_read_some(
      asio::buffer(in_.data() + had, kReadBytes), asio::redirect_error(asio::use_awaitable, error));
  co_await throw_if_cancelled();
  watchdog_->expires = steady_clock::time_point::max();
  in_.resize(had + got);
  if (error == asio::error::eof) co_return false;
  if (error) co_return fail(error_of(error, "reading"));
  co_return true;
}

Async<Result<std::string>> Wire::read_some(Duration idle) {
  HOB_ASSERT(buffered().empty());
  if (interrupted_) co_return fail(Code::kCancelled, "interrupted");
  arm(idle);
  std::string piece(kChunkBytesMax, '\0');
  boost::system::error_code error;
  const size_t got = co_await socket_.async_read_some(
      asio::buffer(piece), asio::redirect_error(asio::use_awaitable, error));
  co_await throw_if_cancelled();
  watchdog_->expires = steady_clock::time_point::max();
  piece.resize(got);
  if (error && error != asio::error::eof) co_return fail(error_of(error, "reading"));
  co_return piece;
}

Async<Result<void>> Wire::write(std::string bytes, Duration idle) {
  if (interrupted_) co_return fail(Code::kCancelled, "interrupted");
  size_t at = 0;
  while (at < bytes.size()) {
    arm(idle);
    boost::system::error_code error;
    at += co_await socket_.async_write_some(asio::buffer(bytes.data() + at, bytes.size() - at),
                                            asio::redirect_error(asio::use_awaitable, error));
    co_await throw_if_cancelled();
    if (error) co_return fail(error_of(error, "writing"));
  }
  watchdog_->expires = steady_clock::time_point::max();
  co_return Result<void>();
}

void Wire::interrupt() {
  interrupted_ = true;
  boost::system::error_code ignored;
  socket_.cancel(ignored);
}

void Wire::shutdown_send() {
  boost::system::error_code ignored;
  socket_.shutdown(Socket::shutdown_send, ignored);
}

WireBody::WireBody(Wire& wire, Framing framing, uint64_t length, Duration idle,
                   bool continue_wanted)
    : wire_(wire),
      framing_(framing),
      left_(length),
      idle_(idle),
      continue_wanted_(continue_wanted),
      finished_(framing == Framing::kNone) {}

std::optional<uint64_t> WireBody::left() const {
  if (finished_) return 0;
  if (framing_ == Framing::kLength) return left_;
  return std::nullopt;
}

Async<Result<std::string>> WireBody::read() {
  if (finished_) co_return std::string();
  if (failed_) co_return fail(Code::kUnavailable, "the body broke off before");
  if (continue_wanted_) {
    continue_wanted_ = false;
    // A client that did not wait needs no go-ahead.
    if (wire_.buffered().empty()) {
      HOB_CO_CHECK(co_await wire_.write("HTTP/1.1 100 Continue\r\n\r\n", idle_));
    }
  }
  Result<std::string> piece;
  if (framing_ == Framing::kChunked) {
    piece = co_await read_chunked();
  } else {
    piece = co_await read_plain();
  }
  if (!piece) failed_ = true;
  co_return piece;
}

Async<Result<std::string>> WireBody::read_plain() {
  std::string piece;
  if (!wire_.buffered().empty()) {
    size_t count = std::min(wire_.buffered().size(), kChunkBytesMax);
    if (framing_ == Framing::kLength && left_ < count) count = static_cast<size_t>(left_);
    piece = wire_.buffered().substr(0, count);
    wire_.take(count);
  } else {
    if (framing_ == Framing::kLength && left_ < kChunkBytesMax) {
      // Through the buffer: what follows may be the next request.
      HOB_CO_TRY(const bool more, co_await wire_.fill(idle_));
      if (!more) co_return fail(Code::kUnavailable, "the peer closed in the middle of the body");
      co_return co_await read_plain();
    }
    HOB_CO_TRY(piece, co_await wire_.read_some(idle_));
  }
  if (piece.empty()) {
    if (framing_ == Framing::kLength)
      co_return fail(Code::kUnavailable, "the peer closed in the middle of the body");
    finished_ = true;
    co_return piece;
  }
  if (framing_ == Framing::kLength) {
    left_ -= piece.size();
    finished_ = left_ == 0;
  }
  co_return piece;
}

Async<Result<std::string>> WireBody::read_chunked() {
  std::string piece;
  for (;;) {
    while (!wire_.buffered().empty() && piece.size() < kChunkBytesMax) {
      const ChunkedDecoder::Step step =
          decoder_.decode(wire_.buffered().substr(0, kChunkBytesMax - piece.size()));
      piece += step.data;
      wire_.take(step.consumed);
      if (step.parsed == Parsed::kBad) co_return fail(Code::kInvalid, "{}", decoder_.error());
      if (step.parsed == Parsed::kDone) {
        finished_ = true;
        co_return piece;
      }
    }
    if (!piece.empty()) co_return piece;
    HOB_CO_TRY(const bool more, co_await wire_.fill(idle_));
    if (!more) co_return fail(Code::kUnavailable, "the peer closed in the middle of the body");
  }
}

void append_field(std::string& out, std::string_view name, std::string_view value) {
  out += name;
  out += ": ";
  for (const char c : value) out.push_back(c == '\r' || c == '\n' || c == '\0' ? ' ' : c);
  out += "\r\n";
}

Async<Result<std::string>> read_all(BodyReader& body, size_t bytes_max) {
  std::string content;
  for (;;) {
    HOB_CO_TRY(std::string piece, co_await body.read());
    if (piece.empty()) co_return content;
    if (piece.size() > bytes_max - content.size()) {
      co_return fail(Code::kLimit, "the body is over {} bytes", bytes_max);
    }
    content += piece;
  }
}

}  // namespace hob::http
