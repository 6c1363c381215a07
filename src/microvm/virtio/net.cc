#include "microvm/virtio/net.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/assert.h"
#include "microvm/devices/bus.h"
#include "microvm/snapshot/encoding.h"
#include "microvm/virtio/segments.h"

namespace hob::microvm {
namespace {

constexpr uint64_t kLargeReceive = net_feature::kReceiveTso4 | net_feature::kReceiveTso6;
constexpr uint64_t kOffered = kFeatureVersion1 | kFeatureEventIndex | net_feature::kChecksum |
                              net_feature::kReceiveChecksum | kLargeReceive | net_feature::kTso4 |
                              net_feature::kTso6 | net_feature::kMergeable;
constexpr uint64_t kBuffersAt = 10;  // num_buffers in the header
// In the configuration: behind address, status and the number of queue pairs.
constexpr size_t kMtuAt = 10;
constexpr uint32_t kSmallFrameBytes = 1526;  // without segmentation, as 5.1.6.3.1 has it
constexpr size_t kTapSource = 0;
constexpr size_t kTimerSource = 1;
constexpr size_t kResponderSource = 2;

}  // namespace

Result<std::unique_ptr<Net>> Net::create(Tap tap, NetOptions options) {
  HOB_TRY(LimitTimer timer, LimitTimer::create(options.clock));
  HOB_TRY(Timer responder_timer, Timer::create());
  return std::unique_ptr<Net>(
      new Net(std::move(tap), std::move(timer), std::move(responder_timer), std::move(options)));
}

Net::Net(Tap tap, LimitTimer timer, Timer responder_timer, NetOptions options)
    : tap_(std::move(tap)),
      timer_(std::move(timer)),
      responder_timer_(std::move(responder_timer)),
      options_(std::move(options)),
      receive_limit_(options_.receive, timer_.now()),
      send_limit_(options_.send, timer_.now()) {}

uint64_t Net::features() const {
  return kOffered | (options_.mac ? net_feature::kMac : 0) | (options_.mtu ? net_feature::kMtu : 0);
}

void Net::read_configuration(uint64_t offset, std::span<std::byte> data) {
  std::array<std::byte, kMtuAt + 2> bytes{};
  if (options_.mac) std::ranges::copy(std::as_bytes(std::span(*options_.mac)), bytes.begin());
  put_number(std::span(bytes).subspan(kMtuAt), options_.mtu.value_or(0));
  for (size_t i = 0; i < data.size(); ++i)
    data[i] = offset + i < bytes.size() ? bytes[offset + i] : std::byte{0};
}

std::vector<VirtioDevice::Source> Net::sources() const {
  return {{.fd = tap_.fd(), .events = EPOLLIN | EPOLLOUT},
          {.fd = timer_.fd(), .events = EPOLLIN},
          {.fd = responder_timer_.fd(), .events = EPOLLIN}};
}

void Net::activate(const Active& active) {
  active_.emplace(active);
  buffers_.resize(kQueueSizeMax);
  piece_counts_.resize(kQueueSizeMax);
  overflow_.resize(kNetFrameBytesMax);
  pieces_.reserve(kNetPiecesMax + kQueueSizeMax);
  tap_.set_offloads(active.features);
}

void Net::reset() {
  active_.reset();
  first_buffer_ = buffer_count_ = buffer_bytes_ = 0;
  pieces_.clear();
}

void Net::set_limits(const Limits& limits) {
  receive_limit_.update(limits.receive, timer_.now());
  send_limit_.update(limits.send, timer_.now());
  timer_.wake();
}

Result<std::string> Net::save() {
  return encode(State{.receive_limit = receive_limit_.state(), .send_limit = send_limit_.state()});
}

Result<void> Net::restore(std::string_view bytes) {
  HOB_TRY(const State saved, decode<State>(bytes));
  receive_limit_.restore(saved.receive_limit, timer_.now());
  send_limit_.restore(saved.send_limit, timer_.now());
  return {};
}

VirtioDevice::Progress Net::notified(size_t index) {
  ++(index == kReceive ? counts_.receive_notices : counts_.send_notices);
  if (options_.responder) return look_both_ways();
  return index == kReceive ? receive() : send();
}

VirtioDevice::Progress Net::host_ready(size_t index) {
  ++(index == kTapSource ? counts_.tap_events : counts_.timer_events);
  if (index == kTimerSource) timer_.fired();
  if (index == kResponderSource && options_.responder) options_.responder->time_passed();
  // Either may wait for either: the tap for room, the timer for the first that may go on.
  return look_both_ways();
}

VirtioDevice::Progress Net::look_both_ways() {
  // What the guest sends may be answered at once.
  const Progress sent = send();
  const Progress received = receive();
  if (options_.responder) {
    if (const auto deadline = options_.responder->deadline()) responder_timer_.arm(*deadline);
  }
  return received == Progress::kMore || sent == Progress::kMore ? Progress::kMore : Progress::kDone;
}

uint64_t Net::frame_bytes_wanted() const {
  if ((active_->features & kLargeReceive) != 0) return kNetFrameBytesMax;
  const uint32_t mtu = options_.mtu.value_or(0);
  return std::max(kSmallFrameBytes, kNetHeaderBytes + kEthernetHeaderBytes + mtu);
}

bool Net::gather(Queue& queue, uint64_t wanted) {
  GuestMemory& memory = active_->memory;
  const bool mergeable = (active_->features & net_feature::kMergeable) != 0;
  const size_t buffers_max = mergeable ? std::min<size_t>(queue.layout().size, kQueueSizeMax) : 1;
  while (buffer_bytes_ < wanted && buffer_count_ < buffers_max && pieces_.size() < kNetPiecesMax) {
    Chain& buffer = gathered(buffer_count_);
    const Queue::Popped popped = queue.pop(memory, buffer);
    if (popped == Queue::Popped::kBroken) return false;
    if (popped == Queue::Popped::kEmpty) {
      if (queue.enable_notification(memory)) continue;
      return true;
    }
    // The header stands in the first of them, and any may be the first.
    if (buffer.readable_bytes > 0 || buffer.writable_bytes < kNetHeaderBytes) return false;
    for (const Segment& segment : buffer.writable) {
      const auto piece = memory.io_range(segment.address, segment.bytes);
      HOB_ASSERT(piece.has_value());  // the queue has looked
      pieces_.push_back(*piece);
    }
    piece_counts_[(first_buffer_ + buffer_count_) % buffers_.size()] = buffer.writable.size();
    buffer_bytes_ += buffer.writable_bytes;
    ++buffer_count_;
  }
  return true;
}

void Net::deliver(Queue& queue, uint64_t bytes) {
  GuestMemory& memory = active_->memory;
  uint16_t used = 0;
  for (uint64_t left = bytes; left > 0; ++used)
    left -= std::min(left, gathered(used).writable_bytes);
  // The tap leaves the number of buffers to us (5.1.6.4).
  HOB_ASSERT(
      copy_out(memory, gathered(0).writable, kBuffersAt, std::as_bytes(std::span(&used, 1))));
  size_t pieces = 0;
  for (uint64_t left = bytes; left > 0;) {
    const Chain& buffer = gathered(0);
    const uint64_t share = std::min(left, buffer.writable_bytes);
    for (const Segment& segment : buffer.writable)
      memory.mark_dirty(segment.address, segment.bytes);
    queue.push_used(memory, buffer.head, static_cast<uint32_t>(share));
    left -= share;
    pieces += piece_counts_[first_buffer_];
    buffer_bytes_ -= buffer.writable_bytes;
    first_buffer_ = (first_buffer_ + 1) % buffers_.size();
    --buffer_count_;
  }
  pieces_.erase(pieces_.begin(), pieces_.begin() + static_cast<std::ptrdiff_t>(pieces));
}

// They wait in the queue again, so that what the device holds can be told from the queue alone.
void Net::drop_gathered(Queue& queue) {
  queue.unpop(buffer_count_);
  buffer_count_ = buffer_bytes_ = 0;
  pieces_.clear();
}

VirtioDevice::Progress Net::receive() {
  Queue& queue = active_->queues[kReceive];
  if (!queue.ready) return Progress::kDone;
  const uint64_t wanted = frame_bytes_wanted();
  uint64_t turn_bytes = 0;
  Progress progress = Progress::kDone;
  for (int count = 0;; ++count) {
    if (count == kQueueSizeMax || turn_bytes >= kNetTurnBytesMax) {
      progress = Progress::kMore;
      break;
    }
    if (timer_.holds_back(receive_limit_)) {
      ++counts_.receive_throttled;
      break;
    }
    if (!gather(queue, wanted)) {
      active_->interrupt.needs_reset();
      break;
    }
    // A guest whose whole queue is too small for the largest frame gets those that fit.
    const bool enough = buffer_bytes_ >= wanted || buffer_count_ == queue.layout().size ||
                        (buffer_count_ > 0 && (active_->features & net_feature::kMergeable) == 0) ||
                        pieces_.size() >= kNetPiecesMax;
    if (!enough) {
      ++counts_.no_receive_buffers;
      break;
    }
    uint64_t bytes = receive_from_responder();
    if (bytes == 0) {
      pieces_.push_back({.iov_base = overflow_.data(), .iov_len = overflow_.size()});
      const ssize_t got = readv(tap_.fd(), pieces_.data(), static_cast<int>(pieces_.size()));
      pieces_.pop_back();
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) {
        if (errno != EAGAIN) ++counts_.receive_failures;
        break;
      }
      bytes = static_cast<uint64_t>(got);
    }
    turn_bytes += bytes;
    if (bytes < kNetHeaderBytes + kEthernetHeaderBytes || bytes > buffer_bytes_) {
      ++counts_.receive_failures;
      continue;
    }
    receive_limit_.charge(bytes);
    deliver(queue, bytes);
    ++counts_.received_frames;
    counts_.received_bytes += bytes;
  }
  drop_gathered(queue);
  if (queue.wants_interrupt(active_->memory)) active_->interrupt.queue_used();
  return progress;
}

uint64_t Net::receive_from_responder() {
  if (!options_.responder) return 0;
  const auto frame = std::span(overflow_).first(kNetHeaderBytes + FrameResponder::kFrameBytesMax);
  const size_t bytes = options_.responder->next(frame.subspan(kNetHeaderBytes));
  if (bytes == 0) return 0;
  std::ranges::fill(frame.first(kNetHeaderBytes), std::byte{0});
  std::span<const std::byte> left = frame.first(kNetHeaderBytes + bytes);
  for (size_t i = 0; i < buffer_count_ && !left.empty(); ++i) {
    const auto part = left.first(std::min(left.size(), gathered(i).writable_bytes));
    HOB_ASSERT(copy_out(active_->memory, gathered(i).writable, 0, part));
    left = left.subspan(part.size());
  }
  return kNetHeaderBytes + bytes;
}

bool Net::give_to_responder(const Chain& chain) {
  if (!options_.responder) return false;
  const uint64_t bytes = chain.readable_bytes - kNetHeaderBytes;
  std::array<std::byte, FrameResponder::kHeadBytes> head{};
  const auto known = std::span(head).first(std::min(bytes, head.size()));
  HOB_ASSERT(copy_in(active_->memory, chain.readable, kNetHeaderBytes, known));
  if (!options_.responder->wants(known)) return false;
  // A copy, which the guest cannot change while it is looked at; its head is looked at again.
  std::array<std::byte, kResponderFrameBytesMax> frame;
  const auto whole = std::span(frame).first(std::min(bytes, frame.size()));
  if (bytes > frame.size() || !copy_in(active_->memory, chain.readable, kNetHeaderBytes, whole) ||
      !options_.responder->wants(whole)) {
    ++counts_.malformed;
    return true;
  }
  options_.responder->take(whole);
  return true;
}

VirtioDevice::Progress Net::send() {
  Queue& queue = active_->queues[kSend];
  if (!queue.ready) return Progress::kDone;
  bool tap_full = false;
  return take_turn(
      *active_, queue, sending_, {.bytes = kNetTurnBytesMax},
      [&] {
        if (tap_full) return false;
        const bool held = timer_.holds_back(send_limit_);
        if (held) ++counts_.send_throttled;
        return !held;
      },
      [&](const Chain& chain) -> std::optional<uint32_t> {
        if (send_frame(chain) == Sent::kDone) return 0;
        ++counts_.send_waits;
        tap_full = true;
        queue.unpop(1);
        return std::nullopt;
      });
}

Net::Sent Net::send_frame(const Chain& chain) {
  const bool sound = chain.writable_bytes == 0 &&
                     chain.readable_bytes >= kNetHeaderBytes + kEthernetHeaderBytes &&
                     chain.readable_bytes <= kNetFrameBytesMax;
  if (!sound) {
    ++counts_.malformed;
    return Sent::kDone;
  }
  MacAddress source{};
  HOB_ASSERT(copy_in(active_->memory, chain.readable, kNetHeaderBytes + source.size(),
                     std::as_writable_bytes(std::span(source))));
  if (options_.mac && source != *options_.mac) ++counts_.foreign_mac;
  if (give_to_responder(chain)) return Sent::kDone;
  HOB_ASSERT(
      io_ranges(active_->memory, chain.readable, 0, chain.readable_bytes, false, sending_pieces_));
  ssize_t sent = 0;
  do {
    sent = writev(tap_.fd(), sending_pieces_.data(), static_cast<int>(sending_pieces_.size()));
  } while (sent < 0 && errno == EINTR);
  if (sent < 0 && errno == EAGAIN) return Sent::kTapFull;
  send_limit_.charge(chain.readable_bytes);
  if (sent < 0) {
    ++counts_.send_failures;
  } else {
    ++counts_.sent_frames;
    counts_.sent_bytes += chain.readable_bytes;
  }
  return Sent::kDone;
}

}  // namespace hob::microvm
