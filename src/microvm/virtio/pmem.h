// Persistent memory (virtio 1.2, section 5.19): a file of the host's mapped into the guest, which
// reads and writes it without asking, and asks for a flush.
//
// The mapping is the machine's to show to the guest; it is no GuestMemory, so no other device
// reaches it. What lies behind the file's end, up to kPmemAlignment, is zero and kept nowhere.
#pragma once

#include <array>
#include <boost/describe.hpp>
#include <memory>
#include <string>

#include "base/file.h"
#include "base/result.h"
#include "microvm/memory/guest_memory.h"
#include "microvm/virtio/device.h"
#include "microvm/virtio/rate_limiter.h"

namespace hob::microvm {

inline constexpr uint64_t kPmemAlignment = 2 << 20;  // of its address and size, as drivers want it
inline constexpr uint64_t kPmemBytesMax = uint64_t{1} << 40;  // of one file

struct PmemOptions {
  std::string id{};
  bool read_only = false;
  RateLimiterOptions limit{};  // of flushes: a file's size each
  MonotonicClock clock = &std::chrono::steady_clock::now;
};

// For snapshots.
struct PmemState {
  uint64_t bytes = 0;  // of the mapping: the driver has taken note of it
  RateLimiter::State limit{};
};
BOOST_DESCRIBE_STRUCT(PmemState, (), (bytes, limit))

class Pmem final : public VirtioDevice {
 public:
  // kInvalid: the file is empty, too large, or cannot be mapped.
  static Result<std::unique_ptr<Pmem>> create(Fd file, PmemOptions options);
  ~Pmem() override;

  // Once, before the machine runs: where the guest finds it, a multiple of kPmemAlignment.
  void place(GuestAddress start) { start_ = start; }
  GuestAddress start() const { return start_; }
  uint64_t bytes() const { return bytes_; }
  void* host() const { return host_; }
  bool read_only() const { return options_.read_only; }

  uint32_t type() const override { return 27; }
  uint64_t features() const override { return kFeatureVersion1 | kFeatureEventIndex; }
  std::span<const uint16_t> queue_sizes() const override { return kQueueSizes; }
  void read_configuration(uint64_t offset, std::span<std::byte> data) override;
  void write_configuration(uint64_t, std::span<const std::byte>) override {}
  void activate(const Active& active) override { active_.emplace(active); }
  Progress notified(size_t index) override;
  std::vector<Source> sources() const override;
  Progress host_ready(size_t index) override;
  void reset() override { active_.reset(); }

  Result<std::string> save() override;
  Result<void> restore(std::string_view state) override;

  // With the device held. Changes the buckets that are given.
  void set_limit(const RateLimiterOptions& limit);
  RateLimiterOptions limit() const { return limit_.options(); }
  struct Counts {
    uint64_t flushes = 0, failures = 0, throttled = 0, timer_events = 0;
  };
  const Counts& counts() const { return counts_; }

 private:
  static constexpr std::array<uint16_t, 1> kQueueSizes = {kQueueSizeMax};
  Pmem(Fd file, PmemOptions options, LimitTimer timer);
  Result<void> map();
  uint32_t serve(const Chain& chain);

  const Fd file_;
  const PmemOptions options_;
  uint64_t file_bytes_ = 0;
  uint64_t bytes_ = 0;
  void* host_ = nullptr;
  GuestAddress start_ = 0;
  LimitTimer timer_;
  RateLimiter limit_;
  std::optional<Active> active_;
  Chain chain_;
  Counts counts_;
};

}  // namespace hob::microvm
