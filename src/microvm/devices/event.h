// An eventfd: a device's interrupt line (KVM raises it), or what wakes a loop.
#pragma once

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "base/file.h"
#include "base/result.h"

namespace hob::microvm {

// Any thread.
class Event {
 public:
  static Result<Event> create() {
    Event event;
    event.fd_ = Fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!event.fd_) return fail_errno(errno, "making an eventfd");
    return event;
  }
  int fd() const { return fd_.get(); }
  void signal() const {
    const uint64_t one = 1;
    // EAGAIN: it has been signalled 2^64 times and not looked at; it is signalled.
    while (write(fd_.get(), &one, sizeof one) < 0 && errno == EINTR) {
    }
  }
  // True: it had been signalled since the last time.
  bool take() const {
    uint64_t count = 0;
    ssize_t got = 0;
    do {
      got = read(fd_.get(), &count, sizeof count);
    } while (got < 0 && errno == EINTR);
    return got == sizeof count;
  }

 private:
  Fd fd_;
};

// What joins events to a guest: KVM, without an exit to us. Any thread.
class EventWiring {
 public:
  virtual ~EventWiring() = default;
  // A guest's write of `bytes` (0: any) with `value` at an MMIO address makes `event` readable.
  virtual Result<void> notify_on_write(uint64_t address, uint32_t bytes, uint32_t value,
                                       int event) = 0;
  // Each write to `event` raises the interrupt.
  virtual Result<void> raise_by(int event, uint32_t gsi) = 0;
};

}  // namespace hob::microvm
