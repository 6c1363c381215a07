// A balloon (virtio 1.2, section 5.5): pages that the guest gives up go back to the host, at once.
//
// It asks the guest to keep so many pages for it; and it may take statistics, free pages that the
// guest reports as it frees them, and free pages that it is asked for (hints). What a page holds
// once it was given up is not kept.
#pragma once

#include <array>
#include <boost/describe.hpp>
#include <memory>
#include <string>
#include <vector>

#include "microvm/devices/timer.h"
#include "microvm/virtio/device.h"

namespace hob::microvm {

inline constexpr uint64_t kBalloonPageBytes = 4096;  // whatever the guest's or host's pages have
// Of one request; beyond, the driver breaks the rules. Linux's has 256.
inline constexpr uint32_t kBalloonRequestPagesMax = 16384;
inline constexpr int kBalloonTurnRequests = 16;
inline constexpr size_t kBalloonStatisticsMax = 16;  // tags 0 to 15, 5.5.6.4 and Linux's since

struct BalloonOptions {
  uint32_t target_mib = 0;
  bool deflate_on_oom = false;
  uint16_t interval_s = 0;  // between statistics; 0: none are taken
  bool hinting = false;
  bool reporting = false;
};
BOOST_DESCRIBE_STRUCT(BalloonOptions, (),
                      (target_mib, deflate_on_oom, interval_s, hinting, reporting))

// Hints come in runs: the host starts one by a number, the guest answers with the same, then with
// kHintsStopped when it has told all; the pages are its own again at kHintsDone.
inline constexpr uint32_t kHintsStopped = 0;
inline constexpr uint32_t kHintsDone = 1;

// For snapshots.
struct BalloonState {
  uint32_t target_pages = 0;
  uint32_t actual_pages = 0;
  uint32_t host_run = kHintsStopped;
  std::optional<uint32_t> guest_run{};
  uint32_t last_run = kHintsDone;
  bool acknowledge = false;
};
BOOST_DESCRIBE_STRUCT(BalloonState, (),
                      (target_pages, actual_pages, host_run, guest_run, last_run, acknowledge))

class Balloon final : public VirtioDevice {
 public:
  static Result<std::unique_ptr<Balloon>> create(
      BalloonOptions options, MonotonicClock clock = &std::chrono::steady_clock::now);

  uint32_t type() const override { return 5; }
  uint64_t features() const override;
  std::span<const uint16_t> queue_sizes() const override { return queue_sizes_; }
  void read_configuration(uint64_t offset, std::span<std::byte> data) override;
  void write_configuration(uint64_t offset, std::span<const std::byte> data) override;
  void activate(const Active& active) override;
  Progress notified(size_t index) override;
  std::vector<Source> sources() const override;
  Progress host_ready(size_t index) override;
  void reset() override;
  Result<std::string> save() override;
  Result<void> restore(std::string_view state) override;

  // With the device held, from here on. The guest is told, and takes its time.
  void set_target(uint32_t mib);
  void set_interval(uint16_t seconds);
  uint32_t target_pages() const { return state_.target_pages; }
  uint32_t actual_pages() const { return state_.actual_pages; }
  // By tag; nullopt: the guest has not told it.
  using Statistics = std::array<std::optional<uint64_t>, kBalloonStatisticsMax>;
  const Statistics& statistics() const { return statistics_; }
  void start_hints(bool acknowledge);
  void stop_hints();
  uint32_t host_run() const { return state_.host_run; }
  std::optional<uint32_t> guest_run() const { return state_.guest_run; }
  struct Counts {
    uint64_t inflations = 0, deflations = 0, statistics = 0, failures = 0;
    uint64_t hints = 0, hinted_bytes = 0, reports = 0, reported_bytes = 0;
  };
  const Counts& counts() const { return counts_; }

 private:
  enum class Kind { kInflate, kDeflate, kStatistics, kHints, kReports };
  Balloon(BalloonOptions options, Timer timer, MonotonicClock clock);
  // False: the driver broke the rules.
  bool serve(Kind kind, Queue& queue);
  bool inflate();
  bool take_statistics(Queue& queue);
  void take_hint();
  void discard(GuestAddress address, uint64_t bytes);
  void ask_for_statistics();
  void arm();

  BalloonOptions options_;
  Timer timer_;
  MonotonicClock clock_;
  std::vector<uint16_t> queue_sizes_;
  std::vector<Kind> kinds_;  // of the queues, by the features that the driver took
  BalloonState state_;
  Statistics statistics_{};
  std::optional<uint16_t> held_;  // the guest's buffer for statistics: given back, it fills it anew
  std::optional<Active> active_;
  Chain chain_;
  std::vector<uint32_t> pages_;
  Counts counts_;
};

}  // namespace hob::microvm
