#include "microvm/loop.h"

#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/assert.h"

namespace hob::microvm {

Result<std::unique_ptr<Loop>> Loop::create() {
  std::unique_ptr<Loop> loop(new Loop);
  loop->epoll_ = Fd(epoll_create1(EPOLL_CLOEXEC));
  if (!loop->epoll_) return fail_errno(errno, "making an epoll instance");
  return loop;
}

Result<void> Loop::watch(int fd, uint32_t events, Callback callback) {
  epoll_event event{};
  event.events = events;
  event.data.fd = fd;
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) < 0)
    return fail_errno(errno, "watching a file");
  callbacks_[fd] = std::make_shared<Callback>(std::move(callback));
  return {};
}

Result<void> Loop::change(int fd, uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.fd = fd;
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event) < 0)
    return fail_errno(errno, "watching a file");
  return {};
}

void Loop::forget(int fd) {
  if (callbacks_.erase(fd) > 0) epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
}

void Loop::run() {
  while (!stopped_) turn(-1);
}

void Loop::turn(int milliseconds) {
  std::array<epoll_event, 32> events{};
  const int count =
      epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), milliseconds);
  HOB_ASSERT(count >= 0 || errno == EINTR);
  for (int i = 0; i < count && !stopped_; ++i) {
    // One before it in this turn may have forgotten it.
    const auto found = callbacks_.find(events[static_cast<size_t>(i)].data.fd);
    if (found == callbacks_.end()) continue;
    const std::shared_ptr<Callback> callback = found->second;
    (*callback)(events[static_cast<size_t>(i)].events);
  }
}

}  // namespace hob::microvm
