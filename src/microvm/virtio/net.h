// A network interface: a tap of the host's (virtio 1.2, section 5.1).
//
// Frames go between the tap and the guest's memory without a copy of ours. Where the guest has no
// room, frames wait in the tap's own queue, which drops what is too much for it; where the tap has
// none, the guest's frames wait in its queue. A frame that the guest made wrongly is dropped.
#pragma once

#include <sys/uio.h>

#include <array>
#include <climits>
#include <memory>
#include <optional>
#include <vector>

#include "base/result.h"
#include "microvm/virtio/device.h"
#include "microvm/virtio/rate_limiter.h"
#include "microvm/virtio/tap.h"

namespace hob::microvm {

using MacAddress = std::array<uint8_t, 6>;

// Of one turn on the loop, each direction, and one frame more.
inline constexpr uint64_t kNetTurnBytesMax = 4 << 20;
// Pieces of buffers before a frame is read, and one buffer's more: with one for what does not fit,
// readv takes them all.
inline constexpr size_t kNetPiecesMax = IOV_MAX - 1 - kQueueSizeMax;

// Answers some of the guest's frames in the tap's place; none of them has virtio's header. On the
// loop.
class FrameResponder {
 public:
  virtual ~FrameResponder() = default;
  // Is it the one to take this frame? Of which it gets the first kHeadBytes, if there are so many.
  static constexpr size_t kHeadBytes = 42;
  virtual bool wants(std::span<const std::byte> head) const = 0;
  virtual void take(std::span<const std::byte> frame) = 0;
  // Puts the next frame for the guest, which has at most kFrameBytesMax, into `frame`. 0: none.
  static constexpr size_t kFrameBytesMax = 1514;
  virtual size_t next(std::span<std::byte> frame) = 0;
  // When `time_passed` is to be called, at the latest.
  virtual std::optional<MonotonicTime> deadline() const = 0;
  virtual void time_passed() = 0;
};
// The largest that it is given; larger ones are dropped.
inline constexpr size_t kResponderFrameBytesMax = 8192;

struct NetOptions {
  std::optional<MacAddress> mac{};  // none: the guest chooses one
  std::optional<uint16_t> mtu{};    // which the guest is told
  RateLimiterOptions receive{};     // what the guest receives, and what it sends
  RateLimiterOptions send{};
  std::unique_ptr<FrameResponder> responder{};
  MonotonicClock clock = &std::chrono::steady_clock::now;
};

class Net final : public VirtioDevice {
 public:
  static Result<std::unique_ptr<Net>> create(Tap tap, NetOptions options);

  uint32_t type() const override { return 1; }
  uint64_t features() const override;
  std::span<const uint16_t> queue_sizes() const override { return kQueueSizes; }
  void read_configuration(uint64_t offset, std::span<std::byte> data) override;
  void write_configuration(uint64_t, std::span<const std::byte>) override {}
  void activate(const Active& active) override;
  Progress notified(size_t index) override;
  std::vector<Source> sources() const override;
  Progress host_ready(size_t index) override;
  void reset() override;

  // With the device held.
  struct Limits {
    RateLimiterOptions receive{};
    RateLimiterOptions send{};
  };
  void set_limits(const Limits& limits);
  Limits limits() const {
    return {.receive = receive_limit_.options(), .send = send_limit_.options()};
  }
  struct State {
    RateLimiter::State receive_limit{};
    RateLimiter::State send_limit{};
    BOOST_DESCRIBE_CLASS(State, (), (receive_limit, send_limit), (), ())
  };
  Result<std::string> save() override;
  Result<void> restore(std::string_view state) override;

  struct Counts {
    uint64_t received_frames = 0, received_bytes = 0, receive_failures = 0;
    uint64_t no_receive_buffers = 0, receive_throttled = 0;
    uint64_t sent_frames = 0, sent_bytes = 0, send_failures = 0, malformed = 0, foreign_mac = 0;
    uint64_t send_throttled = 0, send_waits = 0;
    uint64_t receive_notices = 0, send_notices = 0, tap_events = 0, timer_events = 0;
  };
  const Counts& counts() const { return counts_; }

 private:
  static constexpr size_t kReceive = 0;
  static constexpr size_t kSend = 1;
  static constexpr std::array<uint16_t, 2> kQueueSizes = {kQueueSizeMax, kQueueSizeMax};
  Net(Tap tap, LimitTimer timer, Timer responder_timer, NetOptions options);

  Progress receive();
  Progress send();
  // Takes buffers of the guest's until the largest frame fits, or there are no more. False: broken.
  bool gather(Queue& queue, uint64_t wanted);
  // The frame of `bytes` is in the first buffers: they are the guest's again.
  void deliver(Queue& queue, uint64_t bytes);
  void drop_gathered(Queue& queue);
  Chain& gathered(size_t index) { return buffers_[(first_buffer_ + index) % buffers_.size()]; }
  uint64_t frame_bytes_wanted() const;
  // The responder's next frame is in the first buffers, if they hold it. 0: there is none.
  uint64_t receive_from_responder();
  bool give_to_responder(const Chain& chain);
  Progress look_both_ways();
  enum class Sent { kDone, kTapFull };
  Sent send_frame(const Chain& chain);

  Tap tap_;
  LimitTimer timer_;
  Timer responder_timer_;
  NetOptions options_;
  RateLimiter receive_limit_;
  RateLimiter send_limit_;
  std::optional<Active> active_;
  // The guest's buffers that were popped and not used yet, in a ring; their pieces, in order.
  std::vector<Chain> buffers_;
  size_t first_buffer_ = 0;
  size_t buffer_count_ = 0;
  uint64_t buffer_bytes_ = 0;
  std::vector<iovec> pieces_;
  std::vector<size_t> piece_counts_;  // of each buffer, in the same ring
  std::vector<std::byte> overflow_;   // what of a frame does not fit
  Chain sending_;
  std::vector<iovec> sending_pieces_;
  Counts counts_;
};

}  // namespace hob::microvm
