#include "microvm/virtio/balloon.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "microvm/snapshot/encoding.h"
#include "microvm/virtio/segments.h"

namespace hob::microvm {
namespace {

constexpr uint64_t kStatisticsFeature = 1 << 1;
constexpr uint64_t kDeflateOnOomFeature = 1 << 2;
constexpr uint64_t kHintsFeature = 1 << 3;
constexpr uint64_t kReportsFeature = 1 << 5;
constexpr uint32_t kPagesPerMib = (1 << 20) / kBalloonPageBytes;

// 5.5.4
struct Configuration {
  uint32_t target_pages = 0;
  uint32_t actual_pages = 0;
  uint32_t hint_run = 0;
  uint32_t poison = 0;
};
constexpr uint64_t kActualAt = 4;

struct [[gnu::packed]] Statistic {
  uint16_t tag = 0;
  uint64_t value = 0;
};
static_assert(sizeof(Statistic) == 10);

}  // namespace

Balloon::Balloon(BalloonOptions options, Timer timer, MonotonicClock clock)
    : options_(options), timer_(std::move(timer)), clock_(clock) {
  state_.target_pages = options.target_mib * kPagesPerMib;
  const size_t queues = 2 + (options.interval_s > 0 ? 1 : 0) + (options.hinting ? 1 : 0) +
                        (options.reporting ? 1 : 0);
  queue_sizes_.assign(queues, kQueueSizeMax);
}

Result<std::unique_ptr<Balloon>> Balloon::create(BalloonOptions options, MonotonicClock clock) {
  HOB_TRY(Timer timer, Timer::create());
  return std::unique_ptr<Balloon>(new Balloon(options, std::move(timer), clock));
}

uint64_t Balloon::features() const {
  return kFeatureVersion1 | kFeatureEventIndex |
         (options_.interval_s > 0 ? kStatisticsFeature : 0) |
         (options_.deflate_on_oom ? kDeflateOnOomFeature : 0) |
         (options_.hinting ? kHintsFeature : 0) | (options_.reporting ? kReportsFeature : 0);
}

void Balloon::read_configuration(uint64_t offset, std::span<std::byte> data) {
  const Configuration configuration{.target_pages = state_.target_pages,
                                    .actual_pages = state_.actual_pages,
                                    .hint_run = state_.host_run};
  const auto bytes = std::as_bytes(std::span(&configuration, 1));
  for (size_t i = 0; i < data.size(); ++i)
    data[i] = offset + i < bytes.size() ? bytes[offset + i] : std::byte{0};
}

void Balloon::write_configuration(uint64_t offset, std::span<const std::byte> data) {
  if (offset != kActualAt || data.size() != sizeof state_.actual_pages) return;
  std::memcpy(&state_.actual_pages, data.data(), data.size());
}

void Balloon::activate(const Active& active) {
  active_.emplace(active);
  kinds_ = {Kind::kInflate, Kind::kDeflate};
  // A queue is there for each feature that was taken, without gaps.
  if ((active.features & kStatisticsFeature) != 0) kinds_.push_back(Kind::kStatistics);
  if ((active.features & kHintsFeature) != 0) kinds_.push_back(Kind::kHints);
  if ((active.features & kReportsFeature) != 0) kinds_.push_back(Kind::kReports);
  arm();
}

void Balloon::reset() {
  active_.reset();
  held_.reset();
  state_.actual_pages = 0;
  state_.guest_run.reset();
}

VirtioDevice::Progress Balloon::notified(size_t index) {
  if (index >= kinds_.size()) return Progress::kDone;
  Queue& queue = active_->queues[index];
  Progress progress = Progress::kDone;
  for (int count = 0;; ++count) {
    if (count == kBalloonTurnRequests) {
      progress = Progress::kMore;
      break;
    }
    const Queue::Popped popped = queue.pop(active_->memory, chain_);
    if (popped == Queue::Popped::kEmpty) {
      if (queue.enable_notification(active_->memory)) continue;
      break;
    }
    if (popped == Queue::Popped::kBroken || !serve(kinds_[index], queue)) {
      ++counts_.failures;
      active_->interrupt.needs_reset();
      return Progress::kDone;
    }
  }
  if (queue.wants_interrupt(active_->memory)) active_->interrupt.queue_used();
  return progress;
}

bool Balloon::serve(Kind kind, Queue& queue) {
  switch (kind) {
    case Kind::kInflate:
      ++counts_.inflations;
      if (!inflate()) return false;
      break;
    case Kind::kDeflate:
      ++counts_.deflations;
      break;  // pages come back when they are touched
    case Kind::kStatistics:
      ++counts_.statistics;
      return take_statistics(queue);
    case Kind::kHints:
      take_hint();
      break;
    case Kind::kReports:
      ++counts_.reports;
      counts_.reported_bytes += chain_.writable_bytes;
      for (const Segment& free : chain_.writable) discard(free.address, free.bytes);
      break;
  }
  return queue.push_used(active_->memory, chain_.head, 0);
}

// The request is a list of page numbers.
bool Balloon::inflate() {
  const uint64_t bytes = chain_.readable_bytes;
  if (bytes % sizeof(uint32_t) != 0 || bytes / sizeof(uint32_t) > kBalloonRequestPagesMax)
    return false;
  pages_.resize(bytes / sizeof(uint32_t));
  if (!copy_in(active_->memory, chain_.readable, 0, std::as_writable_bytes(std::span(pages_))))
    return false;
  std::ranges::sort(pages_);
  for (size_t i = 0; i < pages_.size();) {
    size_t end = i + 1;
    while (end < pages_.size() && pages_[end] <= pages_[end - 1] + 1) ++end;
    const uint64_t run = uint64_t{pages_[end - 1]} - pages_[i] + 1;
    discard(pages_[i] * kBalloonPageBytes, run * kBalloonPageBytes);
    i = end;
  }
  return true;
}

bool Balloon::take_statistics(Queue& queue) {
  // One more than the one that is waited with.
  if (held_ && !queue.push_used(active_->memory, *held_, 0)) return false;
  held_ = chain_.head;
  std::array<Statistic, kBalloonStatisticsMax> told{};
  const uint64_t count = std::min<uint64_t>(chain_.readable_bytes / sizeof(Statistic), told.size());
  const auto given = std::span(told).first(count);
  if (!copy_in(active_->memory, chain_.readable, 0, std::as_writable_bytes(given))) return false;
  for (const Statistic& statistic : given)
    if (statistic.tag < statistics_.size()) statistics_[statistic.tag] = statistic.value;
  return true;
}

void Balloon::take_hint() {
  uint32_t run = 0;
  if (chain_.readable_bytes == sizeof run &&
      copy_in(active_->memory, chain_.readable, 0, std::as_writable_bytes(std::span(&run, 1)))) {
    state_.guest_run = run;
    // It has told all: the pages are to be its own again.
    if (run == kHintsStopped && state_.acknowledge) stop_hints();
    return;
  }
  // Pages of a run that was ended may be in use again.
  if (state_.guest_run != state_.host_run || state_.host_run <= kHintsDone) return;
  ++counts_.hints;
  counts_.hinted_bytes += chain_.writable_bytes;
  for (const Segment& free : chain_.writable) discard(free.address, free.bytes);
}

void Balloon::discard(GuestAddress address, uint64_t bytes) {
  active_->memory.discard(address, bytes);
}

std::vector<VirtioDevice::Source> Balloon::sources() const {
  return {{.fd = timer_.fd(), .events = EPOLLIN}};
}

VirtioDevice::Progress Balloon::host_ready(size_t) {
  uint64_t times = 0;
  if (read(timer_.fd(), &times, sizeof times) != sizeof times) return Progress::kDone;
  ask_for_statistics();
  arm();
  return Progress::kDone;
}

void Balloon::ask_for_statistics() {
  if (!held_) return;
  const auto at = std::ranges::find(kinds_, Kind::kStatistics);
  if (at == kinds_.end()) return;
  Queue& queue = active_->queues[static_cast<size_t>(at - kinds_.begin())];
  queue.push_used(active_->memory, *held_, 0);
  held_.reset();
  if (queue.wants_interrupt(active_->memory)) active_->interrupt.queue_used();
}

void Balloon::arm() {
  if (options_.interval_s > 0) timer_.arm(clock_() + std::chrono::seconds(options_.interval_s));
}

void Balloon::set_target(uint32_t mib) {
  options_.target_mib = mib;
  state_.target_pages = mib * kPagesPerMib;
  if (active_) active_->interrupt.configuration_changed();
}

void Balloon::set_interval(uint16_t seconds) {
  options_.interval_s = seconds;
  arm();
}

void Balloon::start_hints(bool acknowledge) {
  // 0 and 1 say something else.
  if (++state_.last_run <= kHintsDone) state_.last_run = kHintsDone + 1;
  state_.host_run = state_.last_run;
  state_.acknowledge = acknowledge;
  if (active_) active_->interrupt.configuration_changed();
}

void Balloon::stop_hints() {
  state_.host_run = kHintsDone;
  if (active_) active_->interrupt.configuration_changed();
}

Result<std::string> Balloon::save() {
  // The buffer that is held is the guest's again, and taken anew.
  const auto at = std::ranges::find(kinds_, Kind::kStatistics);
  if (active_ && held_ && at != kinds_.end())
    active_->queues[static_cast<size_t>(at - kinds_.begin())].unpop(1);
  held_.reset();
  return encode(state_);
}

Result<void> Balloon::restore(std::string_view state) {
  HOB_TRY(state_, decode<BalloonState>(state));
  return {};
}

}  // namespace hob::microvm
