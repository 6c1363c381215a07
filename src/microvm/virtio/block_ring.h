// A disk's file by io_uring: requests go to the kernel together, and come back in any order.
//
// No seccomp filter sees what a ring does for its owner, so the kernel is told for each what it may
// be used for, for ever: its one file, and the three calls below.
//
// Not for several threads at once; what was submitted on one may be waited for on another.
#pragma once

#include <liburing.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "base/file.h"
#include "base/result.h"
#include "microvm/devices/event.h"

namespace hob::microvm {

// Of a ring made with IORING_SETUP_R_DISABLED: from now on it reads, writes and flushes files that
// are registered with it, and one may be registered in another's place. All else is refused with
// EACCES. kUnavailable: Linux is older than 5.10.
Result<void> restrict_and_enable(io_uring& ring);

class BlockRing {
 public:
  // For `file`, which it keeps open. kUnavailable: the host has no io_uring, or does not let us.
  static Result<std::unique_ptr<BlockRing>> create(unsigned entries, const Fd& file);
  ~BlockRing();  // nothing may be in flight
  BlockRing(const BlockRing&) = delete;
  BlockRing& operator=(const BlockRing&) = delete;

  int event_fd() const { return event_.fd(); }  // readable after something is done
  size_t in_flight() const { return in_flight_; }

  // Requests are for this file from now on; nothing may be in flight. kUnavailable: those for the
  // one before still are.
  Result<void> replace_file(const Fd& file);

  // At most `entries` in flight. The pieces, and what they point to, stay until it is done.
  struct Request {
    enum class Kind { kRead, kWrite, kFlush } kind = Kind::kRead;
    std::span<const iovec> pieces{};
    uint64_t offset = 0;
    uint64_t token = 0;
  };
  void add(const Request& request);
  // Hands to the kernel what was added.
  void submit();
  struct Done {
    uint64_t token = 0;
    int32_t result = 0;  // bytes, or an errno less than 0
  };
  // One that is done; nullopt: none is, yet.
  std::optional<Done> reap();
  // Returns when one is done, at the latest when none is in flight.
  void wait();

 private:
  BlockRing() = default;
  io_uring ring_{};
  bool made_ = false;
  Event event_;
  size_t in_flight_ = 0;
};

}  // namespace hob::microvm
