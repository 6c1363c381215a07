// Stands in for the standard library's clock and the kernel's timer within one program, so that not
// a line of what is simulated knows: Asio asks steady_clock for the time, tells the kernel by
// timerfd_settime when its earliest timer is due, and asks epoll_wait whether it is. No other event
// ever comes: what is simulated has no sockets and no threads.
#include "sim/virtual_time.h"

#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <chrono>

#include "base/assert.h"

namespace hob::sim::virtual_time {

namespace {

int64_t g_now_us = 0;
int g_timer = -1;           // the newest loop's
epoll_event g_timer_event;  // as it wants to hear of it
std::optional<int64_t> g_due_us;

}  // namespace

int64_t now_us() { return g_now_us; }

void reset(int64_t at_us) {
  g_now_us = at_us;
  g_due_us.reset();
}

void advance_to(int64_t at_us) {
  HOB_ASSERT(at_us >= g_now_us);
  g_now_us = at_us;
}

std::optional<int64_t> next_timer_us() { return g_due_us; }

static void set_timer(int flags, const itimerspec& when) {
  const int64_t after_us = when.it_value.tv_sec * 1'000'000 + when.it_value.tv_nsec / 1'000;
  if (when.it_value.tv_sec == 0 && when.it_value.tv_nsec == 0) return g_due_us.reset();
  // Asio's way to say "at once" is a time long past.
  g_due_us = (flags & TFD_TIMER_ABSTIME) != 0 ? g_now_us : g_now_us + after_us;
}

static int poll_timer(epoll_event* events) {
  if (!g_due_us || *g_due_us > g_now_us) return 0;
  *events = g_timer_event;
  return 1;
}

}  // namespace hob::sim::virtual_time

std::chrono::steady_clock::time_point std::chrono::steady_clock::now() noexcept {
  return time_point(std::chrono::microseconds(hob::sim::virtual_time::now_us()));
}

extern "C" int timerfd_create(int clock, int flags) noexcept {
  using namespace hob::sim::virtual_time;
  g_timer = static_cast<int>(::syscall(SYS_timerfd_create, clock, flags));
  return g_timer;
}

extern "C" int timerfd_settime(int, int flags, const itimerspec* when, itimerspec*) noexcept {
  hob::sim::virtual_time::set_timer(flags, *when);
  return 0;
}

extern "C" int epoll_ctl(int epoll, int operation, int fd, epoll_event* event) noexcept {
  using namespace hob::sim::virtual_time;
  if (fd == g_timer && operation == EPOLL_CTL_ADD) g_timer_event = *event;
  return static_cast<int>(::syscall(SYS_epoll_ctl, epoll, operation, fd, event));
}

extern "C" int epoll_wait(int, epoll_event* events, int, int) {
  return hob::sim::virtual_time::poll_timer(events);
}
