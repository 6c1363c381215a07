// A disk: a file of the host's (virtio 1.2, section 5.2).
//
// Requests are done on the loop, one after the other, with the file's own calls; or, with the
// engine that is asynchronous, by io_uring, many at a time. A request that the guest made wrongly
// gets an error, one whose file fails gets VIRTIO_BLK_S_IOERR; neither changes anything else.
#pragma once

#include <sys/uio.h>

#include <array>
#include <boost/describe.hpp>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "microvm/virtio/block_ring.h"
#include "microvm/virtio/device.h"
#include "microvm/virtio/rate_limiter.h"

namespace hob::microvm {

inline constexpr uint32_t kSectorBytes = 512;
// Of one turn on the loop, and one request more.
inline constexpr uint64_t kTurnBytesMax = 16 << 20;
inline constexpr uint32_t kDiscardSectorsMax = 1 << 22;  // of one range: 2 GiB
inline constexpr uint32_t kDiscardRangesMax = 32;        // of one request

struct BlockOptions {
  std::string id{};  // what the guest's GET_ID answers, cut at 20 bytes
  bool read_only = false;
  bool flushes = false;       // the guest's flushes reach the disk (cache type Writeback)
  bool asynchronous = false;  // io_uring; where the host has none, as without it
  RateLimiterOptions limit{};
  MonotonicClock clock = &std::chrono::steady_clock::now;
};

// For snapshots.
struct BlockState {
  uint64_t sectors = 0;
  RateLimiter::State limit{};
};
BOOST_DESCRIBE_STRUCT(BlockState, (), (sectors, limit))

class Block final : public VirtioDevice {
 public:
  // `file`'s size is cut down to whole sectors. kUnavailable: it cannot be looked at.
  static Result<std::unique_ptr<Block>> create(Fd file, BlockOptions options);

  uint32_t type() const override { return 2; }
  uint64_t features() const override;
  std::span<const uint16_t> queue_sizes() const override { return kQueueSizes; }
  void read_configuration(uint64_t offset, std::span<std::byte> data) override;
  void write_configuration(uint64_t, std::span<const std::byte>) override {}
  void activate(const Active& active) override;
  Progress notified(size_t index) override;
  std::vector<Source> sources() const override;
  Progress host_ready(size_t index) override;
  void settle() override;
  void reset() override;
  Result<std::string> save() override;
  // kInvalid: the file is smaller than the disk was. A larger one stays of the old size.
  Result<void> restore(std::string_view state) override;
  ~Block() override;

  // With the device held. The guest is told of the new size.
  Result<void> replace_file(Fd file);
  void set_limit(const RateLimiterOptions& limit);
  RateLimiterOptions limit() const { return limit_.options(); }
  bool asynchronous() const { return ring_ != nullptr; }

  struct Counts {
    uint64_t reads = 0, writes = 0, flushes = 0, discards = 0;
    uint64_t read_bytes = 0, write_bytes = 0;
    uint64_t updates = 0;  // another file
    uint64_t failures = 0, throttled = 0, notices = 0, timer_events = 0, ring_events = 0;
  };
  const Counts& counts() const { return counts_; }

 private:
  static constexpr std::array<uint16_t, 1> kQueueSizes = {kQueueSizeMax};
  Block(Fd file, BlockOptions options, uint64_t sectors, LimitTimer timer)
      : file_(std::move(file)),
        options_(std::move(options)),
        sectors_(sectors),
        timer_(std::move(timer)),
        limit_(options_.limit, timer_.now()) {}
  // How many bytes of the writable part were written, the status among them; nullopt: it is in
  // flight.
  std::optional<uint32_t> serve(Chain& chain);
  uint32_t finish(const Chain& chain, uint8_t status, uint64_t written);
  // The status; nullopt: it is in flight.
  std::optional<uint8_t> request(Chain& chain, uint64_t& written);
  std::optional<uint8_t> transfer(Chain& chain, uint64_t bytes, uint64_t sector, bool to_guest);
  std::optional<uint8_t> flush(Chain& chain);
  uint8_t discard(const Chain& chain);

  // A request that the kernel works at.
  struct Pending {
    Chain chain{};
    std::vector<iovec> pieces{};
    BlockRing::Request::Kind kind{};
    uint64_t offset = 0;
    uint64_t bytes = 0;
  };
  Pending& put_in_flight(Chain& chain, BlockRing::Request::Kind kind);
  // Uses those that are done. The last of them may have been many: who calls tells the guest.
  void reap();
  uint8_t outcome(Pending& pending, int32_t result);

  Fd file_;
  BlockOptions options_;
  uint64_t sectors_;
  LimitTimer timer_;
  RateLimiter limit_;
  std::optional<Active> active_;
  Chain chain_;
  std::vector<iovec> vectors_;
  std::unique_ptr<BlockRing> ring_;
  std::vector<Pending> pending_;
  std::vector<size_t> free_;  // of pending_
  Counts counts_;
};

}  // namespace hob::microvm
