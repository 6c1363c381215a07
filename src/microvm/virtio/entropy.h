// A source of random bytes: the host's (virtio 1.2, section 5.4).
#pragma once

#include <array>
#include <boost/describe.hpp>
#include <memory>

#include "base/result.h"
#include "microvm/virtio/device.h"
#include "microvm/virtio/rate_limiter.h"

namespace hob::microvm {

// Of one request; the guest is told that it got no more, and asks again.
inline constexpr uint64_t kEntropyBytesMax = 64 << 10;
inline constexpr uint64_t kEntropyTurnBytesMax = 1 << 20;

struct EntropyOptions {
  RateLimiterOptions limit{};
  MonotonicClock clock = &std::chrono::steady_clock::now;
};

// For snapshots.
struct EntropyState {
  RateLimiter::State limit{};
};
BOOST_DESCRIBE_STRUCT(EntropyState, (), (limit))

class Entropy final : public VirtioDevice {
 public:
  static Result<std::unique_ptr<Entropy>> create(const EntropyOptions& options);

  uint32_t type() const override { return 4; }
  uint64_t features() const override { return kFeatureVersion1 | kFeatureEventIndex; }
  std::span<const uint16_t> queue_sizes() const override { return kQueueSizes; }
  void read_configuration(uint64_t, std::span<std::byte> data) override;
  void write_configuration(uint64_t, std::span<const std::byte>) override {}
  void activate(const Active& active) override { active_.emplace(active); }
  Progress notified(size_t index) override;
  std::vector<Source> sources() const override;
  Progress host_ready(size_t index) override;
  void reset() override { active_.reset(); }

  Result<std::string> save() override;
  Result<void> restore(std::string_view state) override;

  struct Counts {
    uint64_t requests = 0, bytes = 0, failures = 0, throttled = 0, timer_events = 0;
  };
  const Counts& counts() const { return counts_; }

 private:
  static constexpr std::array<uint16_t, 1> kQueueSizes = {kQueueSizeMax};
  Entropy(LimitTimer timer, const RateLimiterOptions& limit)
      : timer_(std::move(timer)), limit_(limit, timer_.now()) {}
  uint32_t fill(const Chain& chain);

  LimitTimer timer_;
  RateLimiter limit_;
  std::optional<Active> active_;
  Chain chain_;
  Counts counts_;
};

}  // namespace hob::microvm
