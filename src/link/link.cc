#include "link/link.h"

#include <sys/socket.h>

#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/write.hpp>
#include <deque>

#include "base/log.h"
#include "link/frame.h"

namespace hob::link {

namespace asio = boost::asio;
using Socket = asio::local::stream_protocol::socket;

namespace {

constexpr size_t kReadBytes = 64 * 1024;
constexpr size_t kWriteBytes = 256 * 1024;  // frames written together, if one alone is not larger
constexpr size_t kSunPathMax = 107;
constexpr Duration kAcceptRetry{100};

uid_t uid_of_peer(Socket& socket) {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (getsockopt(socket.native_handle(), SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0)
    return static_cast<uid_t>(-1);
  return credentials.uid;
}

}  // namespace

// Kept alive by its writing coroutine until close(); the user's pointer closes when it goes.
class SocketSession final : public Session, public std::enable_shared_from_this<SocketSession> {
 public:
  SocketSession(Socket socket, Timing timing)
      : socket_(std::move(socket)),
        timing_(timing),
        peer_uid_(uid_of_peer(socket_)),
        to_send_(socket_.get_executor()),
        written_more_(socket_.get_executor()) {}

  // The pointer to give away.
  std::shared_ptr<Session> handle() {
    return {this, [self = shared_from_this()](Session* session) { session->close(); }};
  }

  Result<void> send(Message message) override {
    if (closed_ || broken_) return fail(Code::kUnavailable, "the link has ended");
    if (queue_.size() >= kSendQueueMax) {
      log::warn("link ended: the peer does not read", {{"queued", queue_.size()}});
      close();
      return fail(Code::kUnavailable, "the link's peer does not read");
    }
    HOB_TRY(std::string frame, encode_frame(message));
    push(std::move(frame));
    to_send_.set();
    return {};
  }

  Async<Result<void>> flush() override {
    // Its own pointer: the session may go while this waits.
    const std::shared_ptr<SocketSession> self = shared_from_this();
    const uint64_t goal = frames_queued_;
    while (frames_written_ < goal) {
      if (closed_ || broken_) co_return fail(Code::kUnavailable, "the link has ended");
      written_more_.reset();
      co_await written_more_.wait();
    }
    co_return Result<void>();
  }

  Async<Result<Message>> receive() override {
    for (;;) {
      if (closed_) co_return fail(Code::kUnavailable, "the link has ended");
      Result<std::optional<Message>> message = decoder_.next();
      if (!message) {
        log::warn("link ended: bad frame", {{"error", message.error().message}});
        close();
        co_return fail(Code::kUnavailable, "the link's peer sent {}", message.error().message);
      }
      if (*message) co_return std::move(**message);
      const Result<void> more = co_await within(timing_.silence, read_some());
      if (!more) {
        if (more.error().code == Code::kTimeout) log::warn("link ended: the peer is silent");
        close();
        co_return fail(Code::kUnavailable, "the link has ended: {}", more.error().message);
      }
    }
  }

  uid_t peer_uid() const override { return peer_uid_; }

  void close() override {
    if (closed_) return;
    closed_ = true;
    queue_.clear();
    boost::system::error_code ignored;
    socket_.shutdown(Socket::shutdown_both, ignored);
    socket_.close(ignored);
    to_send_.set();
    written_more_.set();
  }

  // Writes what is queued, and a ping when there is nothing.
  Async<> write() {
    while (!closed_ && !broken_) {
      if (queue_.empty()) {
        to_send_.reset();
        const bool wanted = co_await to_send_.wait_for(timing_.ping);
        if (closed_) co_return;
        if (!wanted) push(ping_frame());
      }
      std::string bytes = std::move(queue_.front());
      queue_.pop_front();
      uint64_t frames = 1;
      for (; !queue_.empty() && bytes.size() + queue_.front().size() <= kWriteBytes; ++frames) {
        bytes += queue_.front();
        queue_.pop_front();
      }
      const Result<void> written = co_await within(timing_.silence, write_all(std::move(bytes)));
      if (written) {
        frames_written_ += frames;
        written_more_.set();
        continue;
      }
      if (!closed_) log::warn("link ended", {{"error", written.error().message}});
      if (written.error().code == Code::kTimeout) close();
      give_up_writing();
    }
  }

 private:
  void push(std::string frame) {
    queue_.push_back(std::move(frame));
    ++frames_queued_;
  }

  // The peer has closed its end: receive() gives what it said before that, and then ends the link.
  void give_up_writing() {
    broken_ = true;
    queue_.clear();
    written_more_.set();
  }

  Async<Result<void>> read_some() {
    std::string bytes(kReadBytes, '\0');
    boost::system::error_code error;
    const size_t got = co_await socket_.async_read_some(
        asio::buffer(bytes), asio::redirect_error(asio::use_awaitable, error));
    // Before anything that may throw: what was read is not lost by a cancellation.
    decoder_.feed(std::string_view(bytes).substr(0, got));
    if (error) co_return fail(Code::kUnavailable, "{}", error.message());
    co_return Result<void>();
  }

  Async<Result<void>> write_all(std::string bytes) {
    boost::system::error_code error;
    co_await asio::async_write(socket_, asio::buffer(bytes),
                               asio::redirect_error(asio::use_awaitable, error));
    if (error) co_return fail(Code::kUnavailable, "{}", error.message());
    co_return Result<void>();
  }

  Socket socket_;
  Timing timing_;
  uid_t peer_uid_;
  Event to_send_;
  Event written_more_;
  std::deque<std::string> queue_;  // frames
  uint64_t frames_queued_ = 0;     // ever
  uint64_t frames_written_ = 0;
  FrameDecoder decoder_;
  bool broken_ = false;  // nothing can be written any more
  bool closed_ = false;
};

class Listener::Impl {
 public:
  Impl(Executor executor, Fd listener, std::set<uid_t> uids, Serve serve, Timing timing)
      : acceptor_(executor),
        uids_(std::move(uids)),
        serve_(std::move(serve)),
        timing_(timing),
        scope_(executor) {
    acceptor_.assign(asio::local::stream_protocol(), listener.release());
    acceptor_.non_blocking(true);
  }

  void start() {
    scope_.spawn("link accept", [this] { return accept(); });
  }

  Async<> stop() {
    boost::system::error_code ignored;
    acceptor_.close(ignored);
    scope_.cancel();
    co_await scope_.join();
  }

 private:
  Async<> accept() {
    for (;;) {
      boost::system::error_code error;
      Socket socket(scope_.executor());
      co_await acceptor_.async_accept(socket, asio::redirect_error(asio::use_awaitable, error));
      co_await throw_if_cancelled();
      if (error == asio::error::bad_descriptor || error == asio::error::operation_aborted)
        co_return;
      if (error) {
        log::warn("accepting a link failed", {{"error", error.message()}});
        co_await sleep_for(kAcceptRetry);
        continue;
      }
      const uid_t uid = uid_of_peer(socket);
      if (!uids_.contains(uid)) {
        log::warn("link refused: not a user we know", {{"uid", uid}});
        continue;
      }
      if (sessions_ >= kSessionsMax) {
        log::warn("link refused: too many", {{"sessions", sessions_}});
        continue;
      }
      auto session = std::make_shared<SocketSession>(std::move(socket), timing_);
      scope_.spawn("link write", [session] { return session->write(); });
      scope_.spawn("link serve", [this, handle = session->handle()] { return serve(handle); });
    }
  }

  Async<> serve(std::shared_ptr<Session> session) {
    struct Count {
      explicit Count(size_t& which) : value(which) { ++value; }
      ~Count() { --value; }
      Count(const Count&) = delete;
      Count& operator=(const Count&) = delete;
      size_t& value;
    };
    const Count count(sessions_);
    co_await serve_(session);
    session->close();
  }

  asio::local::stream_protocol::acceptor acceptor_;
  std::set<uid_t> uids_;
  Serve serve_;
  Timing timing_;
  size_t sessions_ = 0;
  AsyncScope scope_;
};

Listener::Listener(Executor executor, Fd listener, std::set<uid_t> uids, Serve serve, Timing timing)
    : impl_(std::make_unique<Impl>(std::move(executor), std::move(listener), std::move(uids),
                                   std::move(serve), timing)) {}
Listener::~Listener() = default;
void Listener::start() { impl_->start(); }
Async<> Listener::stop() { return impl_->stop(); }

Async<Result<std::shared_ptr<Session>>> connect(AsyncScope& scope, std::string socket_path,
                                                Timing timing) {
  if (socket_path.size() > kSunPathMax)
    co_return fail(Code::kInvalid, "{}: the path is too long", socket_path);
  Socket socket(scope.executor());
  boost::system::error_code error;
  co_await socket.async_connect(asio::local::stream_protocol::endpoint(socket_path),
                                asio::redirect_error(asio::use_awaitable, error));
  co_await throw_if_cancelled();
  if (error)
    co_return fail(Code::kUnavailable, "connecting to {}: {}", socket_path, error.message());
  auto session = std::make_shared<SocketSession>(std::move(socket), timing);
  scope.spawn("link write", [session] { return session->write(); });
  co_return session->handle();
}

}  // namespace hob::link
