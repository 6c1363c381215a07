// A disk's file by io_uring: requests go to the kernel together, and come back in any order.
//
// Not for several threads at once; what was submitted on one may be waited for on another.
#pragma once

#include <liburing.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "base/result.h"
#include "microvm/devices/event.h"

namespace hob::microvm {

class BlockRing {
 public:
  // kUnavailable: the host has no io_uring, or does not let us.
  static Result<std::unique_ptr<BlockRing>> create(unsigned entries);
  ~BlockRing();  // nothing may be in flight
  BlockRing(const BlockRing&) = delete;
  BlockRing& operator=(const BlockRing&) = delete;

  int event_fd() const { return event_.fd(); }  // readable after something is done
  size_t in_flight() const { return in_flight_; }

  // At most `entries` in flight. The pieces, and what they point to, stay until it is done.
  struct Request {
    enum class Kind { kRead, kWrite, kFlush } kind = Kind::kRead;
    int fd = -1;
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
