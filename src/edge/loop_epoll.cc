#include "edge/loop_epoll.h"

#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace hob::edge {
namespace {

constexpr int kEventsAtOnce = 256;
constexpr int kReadsInATurn = 4;
constexpr int kAcceptsInATurn = 64;
constexpr uint64_t kWake = 1;
constexpr uint64_t kAccept = 2;
constexpr uint64_t kTagMask = 7;

}  // namespace

Result<std::unique_ptr<Loop>> EpollLoop::make() {
  std::unique_ptr<EpollLoop> loop(new EpollLoop());
  loop->epoll_ = Fd(::epoll_create1(EPOLL_CLOEXEC));
  if (!loop->epoll_) return fail_errno(errno, "epoll_create1");
  epoll_event event{.events = EPOLLIN, .data = {.u64 = kWake}};
  if (::epoll_ctl(loop->epoll_.get(), EPOLL_CTL_ADD, loop->wake_fd_.get(), &event) != 0) {
    return fail_errno(errno, "watching an eventfd");
  }
  return loop;
}

void EpollLoop::run() {
  epoll_event events[kEventsAtOnce];
  while (!stopping_.load(std::memory_order_acquire)) {
    do {
      flush_all();
      run_released();
    } while (busy());
    retry_reads();
    const uint64_t wait_ms =
        ready_.empty() ? std::clamp<uint64_t>(timers_.wait(now_ms_), 1, 60'000) : 0;
    const int count = ::epoll_wait(epoll_.get(), events, kEventsAtOnce, static_cast<int>(wait_ms));
    HOB_ASSERT(count >= 0 || errno == EINTR);
    tick();
    for (int i = 0; i < count; ++i) {
      const uint64_t data = events[i].data.u64;
      if (data == kWake) {
        uint64_t value = 0;
        [[maybe_unused]] const auto got = ::read(wake_fd_.get(), &value, sizeof value);
      } else if ((data & kTagMask) == kAccept) {
        accept_all(data >> 3);
      } else {
        event(*static_cast<Socket*>(events[i].data.ptr), events[i].events);
      }
    }
    std::vector<Socket*> turn;
    turn.swap(ready_);
    for (Socket* socket : turn) socket->ready_ = false;
    for (Socket* socket : turn) {
      if (!socket->closing_) read_some(*socket);
    }
    run_timers();
    run_posted();
  }
}

void EpollLoop::listen(int fd, Listener& listener, size_t index) {
  accepting_.push_back({.fd = fd, .listener = &listener, .index = index});
  // Level-triggered: what one turn leaves comes with the next.
  epoll_event event{.events = EPOLLIN | EPOLLEXCLUSIVE,
                    .data = {.u64 = ((accepting_.size() - 1) << 3) | kAccept}};
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event);
}

void EpollLoop::unlisten(Backlog backlog) {
  std::vector<Accepting> done;
  done.swap(accepting_);
  for (const Accepting& it : done) {
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, it.fd, nullptr);
    if (backlog == Backlog::kTake) take_backlog(it.fd, *it.listener, it.index, SOCK_NONBLOCK);
  }
  if (!done.empty()) done.front().listener->on_unlistened();
}

void EpollLoop::accept_all(size_t index) {
  for (int i = 0; i < kAcceptsInATurn; ++i) {
    if (index >= accepting_.size()) return;  // unlistened in this turn
    Accepting& accepting = accepting_[index];
    // MSG_DONTWAIT has no counterpart here: the listening socket itself is made not to block by
    // whoever made it, or by Edge when it takes it over.
    const int fd = ::accept4(accepting.fd, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) return;
    accepting.listener->on_accept(fd, accepting.index);
  }
}

void EpollLoop::start_socket(Socket& socket) {
  socket.writable_ = !socket.connecting_;
  epoll_event event{.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data = {.ptr = &socket}};
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, socket.fd_, &event);
}

void EpollLoop::connect(Socket& socket, const sockaddr_in& address) {
  socket.fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  const int one = 1;
  ::setsockopt(socket.fd_, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  socket.connecting_ = true;
  const int result =
      ::connect(socket.fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address);
  if (result != 0 && errno != EINPROGRESS) {
    // No event will come: told in the next turn, as any other result.
    socket.ops_ = 1;
    const int error = errno;
    post([this, &socket, error] {
      socket.ops_ = 0;
      socket.connecting_ = false;
      if (socket.closing_) {
        release(socket);
      } else {
        socket.on_connected(error);
      }
    });
    return;
  }
  start_socket(socket);
}

void EpollLoop::event(Socket& socket, uint32_t events) {
  if (socket.closing_) return;
  if (socket.connecting_) {
    if ((events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) == 0) return;
    int error = 0;
    socklen_t size = sizeof error;
    ::getsockopt(socket.fd_, SOL_SOCKET, SO_ERROR, &error, &size);
    socket.connecting_ = false;
    socket.writable_ = true;
    if (error == 0 && socket.unsent() > 0) flush(socket);
    socket.on_connected(error);
    if (socket.closing_) return;
  }
  if ((events & EPOLLOUT) != 0) {
    socket.writable_ = true;
    if (socket.unsent() > 0) flush(socket);
  }
  if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) {
    socket.readable_ = true;
    if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) socket.hung_up_ = true;
    if (socket.want_read_) read(socket);
    // Broken while nobody reads it: nothing else will tell.
    if ((events & EPOLLERR) != 0 && !socket.want_read_) ended(socket, ECONNRESET);
  }
}

void EpollLoop::read(Socket& socket) {
  socket.want_read_ = true;
  if (!socket.readable_ || socket.ready_ || socket.closing_ || socket.ended_) return;
  socket.ready_ = true;
  ready_.push_back(&socket);
}

void EpollLoop::pause(Socket& socket) { socket.want_read_ = false; }

void EpollLoop::read_some(Socket& socket) {
  for (int i = 0; i < kReadsInATurn; ++i) {
    if (!socket.want_read_ || !socket.readable_) return;
    Buffer* buffer = buffers_.plenty() ? buffers_.take() : nullptr;
    if (buffer == nullptr) {
      starve(socket);
      return;
    }
    const ssize_t count = ::recv(socket.fd_, buffer->data, kBufferBytes, 0);
    const int error = errno;
    const size_t size = count > 0 ? static_cast<size_t>(count) : 0;
    buffer->used = static_cast<uint32_t>(size);
    Slice data(buffer, buffer->data, size);
    if (count < 0 && error == EINTR) continue;
    if (count < 0 && (error == EAGAIN || error == EWOULDBLOCK)) {
      socket.readable_ = false;
      return;
    }
    if (count <= 0) {
      socket.readable_ = false;
      ended(socket, count == 0 ? 0 : error);
      return;
    }
    // Less than asked for: it was all, and what comes later raises a new edge. The end may have
    // come already.
    if (size < kBufferBytes && !socket.hung_up_) socket.readable_ = false;
    socket.take(std::move(data));
    if (socket.closing_) return;
  }
  if (socket.want_read_) read(socket);
}

void EpollLoop::start_send(Socket& socket) {
  if (!socket.writable_) return;
  Sending sending;
  gather(socket, sending);
  const ssize_t done = send_now(socket, sending);
  if (done < 0) {
    if (errno == EINTR) {
      flush(socket);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      socket.writable_ = false;
    } else {
      send_failed(socket, errno);
    }
    return;
  }
  if (static_cast<size_t>(done) < sending.bytes) socket.writable_ = false;
  sent(socket, static_cast<size_t>(done));
}

bool EpollLoop::start_close(Socket& socket) {
  if (socket.ready_) std::erase(ready_, &socket);
  socket.ready_ = false;
  if (socket.fd_ >= 0) ::close(std::exchange(socket.fd_, -1));
  return socket.ops_ == 0;
}

void EpollLoop::shut_now(Socket& socket) { ::shutdown(socket.fd_, SHUT_WR); }

}  // namespace hob::edge
