// A timer descriptor: readable from the moment on that it was armed for.
#pragma once

#include <sys/timerfd.h>

#include <cerrno>
#include <chrono>

#include "base/assert.h"
#include "base/file.h"
#include "base/result.h"

namespace hob::microvm {

// Since the host started; never set back. What a device is told as "now", so that tests choose it.
using MonotonicTime = std::chrono::steady_clock::time_point;
using MonotonicClock = MonotonicTime (*)();

// Any thread.
class Timer {
 public:
  static Result<Timer> create() {
    Timer timer;
    timer.fd_ = Fd(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
    if (!timer.fd_) return fail_errno(errno, "making a timer");
    return timer;
  }
  int fd() const { return fd_.get(); }
  // Instead of what it was armed for before; a moment gone by is now.
  void arm(MonotonicTime at) const {
    const auto since =
        std::max<std::chrono::nanoseconds>(at.time_since_epoch(), std::chrono::nanoseconds(1));
    itimerspec when{};
    when.it_value.tv_sec = since.count() / std::nano::den;
    when.it_value.tv_nsec = since.count() % std::nano::den;
    HOB_ASSERT(timerfd_settime(fd_.get(), TFD_TIMER_ABSTIME, &when, nullptr) == 0);
  }

 private:
  Fd fd_;
};

}  // namespace hob::microvm
