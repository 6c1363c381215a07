#include "edge/loop.h"

#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <string_view>

#include "base/log.h"
#include "edge/loop_epoll.h"
#include "edge/loop_uring.h"

namespace hob::edge {
namespace {

uint64_t steady_us() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000 + static_cast<uint64_t>(now.tv_nsec) / 1'000;
}

}  // namespace

Result<std::unique_ptr<Loop>> Loop::make(Io io) {
  if (io == Io::kBest) {
    const char* wanted = std::getenv("HOB_EDGE_IO");
    if (wanted != nullptr && std::string_view(wanted) == "epoll") io = Io::kEpoll;
  }
  if (io != Io::kEpoll) {
    auto uring = UringLoop::make();
    if (uring || io == Io::kUring) return uring;
    log::warn("a loop has epoll in the place of io_uring", {{"error", uring.error().message}});
  }
  return EpollLoop::make();
}

Loop::Loop() : timers_(steady_us() / 1'000), wake_fd_(::eventfd(0, EFD_CLOEXEC)) {
  HOB_ASSERT(wake_fd_.get() >= 0);
  tick();
}

void Loop::tick() {
  now_us_ = steady_us();
  now_ms_ = now_us_ / 1'000;
  buffers_in_use_.store(buffers_.in_use(), std::memory_order_relaxed);
}

void Loop::post(std::function<void()> work) {
  {
    const std::lock_guard lock(mutex_);
    posted_.push_back(std::move(work));
    has_posted_.store(true, std::memory_order_release);
  }
  wake();
}

void Loop::stop() {
  stopping_.store(true, std::memory_order_release);
  wake();
}

void Loop::wake() {
  const uint64_t one = 1;
  // A full counter wakes just as well, so the result does not matter.
  [[maybe_unused]] const auto written = ::write(wake_fd_.get(), &one, sizeof one);
}

void Loop::run_posted() {
  if (!has_posted_.load(std::memory_order_acquire)) return;
  std::vector<std::function<void()>> work;
  {
    const std::lock_guard lock(mutex_);
    work.swap(posted_);
    has_posted_.store(false, std::memory_order_release);
  }
  for (auto& function : work) function();
}

void Loop::run_timers() {
  timers_.run(now_ms_, [](Timer& timer) { static_cast<Alarm&>(timer).on_alarm(); });
}

void Loop::adopt(Socket& socket, int fd) {
  socket.fd_ = fd;
  start_socket(socket);
}

void Loop::flush_all() {
  // What a send completes at once may queue more; the loop's turn ends with nothing queued.
  while (!flush_list_.empty()) {
    flushing_.swap(flush_list_);
    for (Socket* socket : flushing_) {
      socket->queued_ = false;
      if (socket->closing_ || socket->connecting_) continue;
      if (socket->send_broken_) {
        drop_unsent(*socket);
        socket->on_sent();
        continue;
      }
      if (socket->filter_ != nullptr && !seal(*socket)) continue;
      if (!socket->wire().empty()) {
        if (socket->sending_ == 0) start_send(*socket);
      } else if (socket->shut_wanted_ && !socket->shut_) {
        socket->shut_ = true;
        shut_now(*socket);
      }
    }
    flushing_.clear();
  }
}

void Loop::let_go_held() {
  std::erase_if(held_, [this](Socket* socket) {
    if (socket->held_again_) {
      socket->held_again_ = false;
      return false;
    }
    socket->held_ = false;
    flush(*socket);
    return true;
  });
}

// False: it is broken, and has been told.
bool Loop::seal(Socket& socket) {
  if (!socket.filter_->seal(socket.out_)) {
    send_failed(socket, EPROTO);
    return false;
  }
  if (socket.shut_wanted_ && !socket.finished_ && socket.out_.empty()) {
    socket.finished_ = true;
    socket.filter_->finish();
  }
  return true;
}

void Loop::drop_unsent(Socket& socket) {
  socket.out_.clear();
  // A send under way still reads its bytes.
  if (socket.filter_ != nullptr && socket.sending_ == 0) socket.filter_->wire().clear();
}

void Loop::gather(Socket& socket, Sending& sending) {
  const Chain& wire = socket.wire();
  sending.count = std::min(wire.pieces(), std::size(sending.pieces));
  sending.bytes = 0;
  for (size_t i = 0; i < sending.count; ++i) {
    const Slice& piece = wire.piece(i);
    // The kernel only reads what is sent.
    sending.pieces[i] = {.iov_base = const_cast<char*>(piece.data()), .iov_len = piece.size()};
    sending.bytes += piece.size();
  }
  // The socket's last bytes and its end, which follows at once, are one packet together.
  const bool last = socket.shut_wanted_ && sending.count == wire.pieces() &&
                    (socket.filter_ == nullptr || (socket.finished_ && socket.out_.empty()));
  sending.flags = last ? MSG_NOSIGNAL | MSG_MORE : MSG_NOSIGNAL;
}

ssize_t Loop::send_now(const Socket& socket, const Sending& sending) {
  const int flags = sending.flags | MSG_DONTWAIT;
  if (sending.count == 1)
    return ::send(socket.fd_, sending.pieces[0].iov_base, sending.pieces[0].iov_len, flags);
  msghdr header{};
  header.msg_iov = const_cast<iovec*>(sending.pieces);
  header.msg_iovlen = sending.count;
  return ::sendmsg(socket.fd_, &header, flags);
}

void Loop::sent(Socket& socket, size_t count) {
  socket.wire().consume(count);
  if (socket.unsent() > 0 || socket.shut_wanted_) flush(socket);
  socket.on_sent();
}

void Loop::ended(Socket& socket, int error) {
  if (socket.closing_ || (error == 0 ? socket.ended_ : socket.broken_)) return;
  socket.ended_ = true;
  if (error != 0) socket.broken_ = true;
  socket.on_end(error);
}

void Loop::send_failed(Socket& socket, int error) {
  if (socket.ended_ || !socket.want_read_) {
    ended(socket, error);
    return;
  }
  socket.send_broken_ = true;
  drop_unsent(socket);
  socket.on_sent();
}

void Loop::take_backlog(int fd, Listener& listener, size_t index, int flags) {
  for (int i = 0; i < kBacklogTakenMax; ++i) {
    const int taken = ::accept4(fd, nullptr, nullptr, SOCK_CLOEXEC | flags);
    if (taken < 0) return;
    listener.on_accept(taken, index);
  }
}

void Loop::close(Socket& socket) {
  if (socket.closing_) return;
  socket.closing_ = true;
  set_timer(socket, kNever);
  if (start_close(socket)) release(socket);
}

void Loop::run_released() {
  while (!released_.empty()) {
    std::vector<Socket*> gone;
    gone.swap(released_);
    for (Socket* socket : gone) {
      if (socket->queued_) std::erase(flush_list_, socket);
      if (socket->retry_read_) std::erase(starved_, socket);
      if (socket->held_) std::erase(held_, socket);
      drop_unsent(*socket);
      socket->on_released();
    }
  }
}

void Loop::starve(Socket& socket) {
  if (socket.retry_read_) return;
  socket.retry_read_ = true;
  starved_.push_back(&socket);
}

void Loop::retry_reads() {
  if (starved_.empty() || !buffers_.plenty()) return;
  std::vector<Socket*> again;
  again.swap(starved_);
  for (Socket* socket : again) {
    socket->retry_read_ = false;
    if (socket->want_read_ && !socket->closing_) read(*socket);
  }
}

}  // namespace hob::edge
