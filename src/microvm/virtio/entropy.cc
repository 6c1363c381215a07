#include "microvm/virtio/entropy.h"

#include <sys/epoll.h>
#include <sys/random.h>

#include <cerrno>

#include "base/assert.h"
#include "microvm/snapshot/encoding.h"

namespace hob::microvm {

Result<std::unique_ptr<Entropy>> Entropy::create(const EntropyOptions& options) {
  HOB_TRY(LimitTimer timer, LimitTimer::create(options.clock));
  return std::unique_ptr<Entropy>(new Entropy(std::move(timer), options.limit));
}

void Entropy::read_configuration(uint64_t, std::span<std::byte> data) {
  std::ranges::fill(data, std::byte{0});
}

Result<std::string> Entropy::save() { return encode(EntropyState{.limit = limit_.state()}); }

Result<void> Entropy::restore(std::string_view state) {
  HOB_TRY(const EntropyState entropy, decode<EntropyState>(state));
  limit_.restore(entropy.limit, timer_.now());
  return {};
}

std::vector<VirtioDevice::Source> Entropy::sources() const {
  return {{.fd = timer_.fd(), .events = EPOLLIN}};
}

VirtioDevice::Progress Entropy::host_ready(size_t) {
  ++counts_.timer_events;
  timer_.fired();
  return notified(0);
}

VirtioDevice::Progress Entropy::notified(size_t) {
  Queue& queue = active_->queues[0];
  if (!queue.ready) return Progress::kDone;
  return take_turn(
      *active_, queue, chain_, {.bytes = kEntropyTurnBytesMax},
      [&] {
        const bool held = timer_.holds_back(limit_);
        if (held) ++counts_.throttled;
        return !held;
      },
      [&](const Chain& chain) -> std::optional<uint32_t> { return fill(chain); });
}

uint32_t Entropy::fill(const Chain& chain) {
  ++counts_.requests;
  if (chain.writable_bytes == 0 || chain.readable_bytes > 0) {
    ++counts_.failures;
    return 0;
  }
  uint64_t filled = 0;
  for (const Segment& segment : chain.writable) {
    const uint64_t bytes = std::min<uint64_t>(segment.bytes, kEntropyBytesMax - filled);
    if (bytes == 0) break;
    const auto range = active_->memory.io_range(segment.address, bytes);
    HOB_ASSERT(range.has_value());  // the queue has looked
    active_->memory.mark_dirty(segment.address, bytes);
    for (size_t done = 0; done < bytes;) {
      const ssize_t got =
          getrandom(static_cast<std::byte*>(range->iov_base) + done, bytes - done, 0);
      HOB_ASSERT(got > 0 || errno == EINTR);
      if (got > 0) done += static_cast<size_t>(got);
    }
    filled += bytes;
  }
  limit_.charge(filled);
  counts_.bytes += filled;
  return static_cast<uint32_t>(filled);
}

}  // namespace hob::microvm
