#include "microvm/virtio/block.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/virtio_blk.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/assert.h"
#include "microvm/snapshot/encoding.h"
#include "microvm/virtio/segments.h"

namespace hob::microvm {
namespace {

constexpr uint64_t kSegmentsFeature = uint64_t{1} << VIRTIO_BLK_F_SEG_MAX;
constexpr uint64_t kReadOnlyFeature = uint64_t{1} << VIRTIO_BLK_F_RO;
constexpr uint64_t kFlushFeature = uint64_t{1} << VIRTIO_BLK_F_FLUSH;
constexpr uint64_t kDiscardFeature = uint64_t{1} << VIRTIO_BLK_F_DISCARD;
constexpr uint32_t kHeaderBytes = sizeof(virtio_blk_outhdr);

constexpr size_t kTimerSource = 0;

Result<uint64_t> sectors_of(const Fd& file) {
  const off_t bytes = lseek(file.get(), 0, SEEK_END);
  if (bytes < 0) return fail_errno(errno, "looking at the disk's size");
  return static_cast<uint64_t>(bytes) / kSectorBytes;
}

// Takes `bytes` off the front.
void skip(std::vector<iovec>& vectors, uint64_t bytes) {
  size_t first = 0;
  while (first < vectors.size() && bytes >= vectors[first].iov_len)
    bytes -= vectors[first++].iov_len;
  vectors.erase(vectors.begin(), vectors.begin() + static_cast<std::ptrdiff_t>(first));
  if (bytes == 0) return;
  vectors[0].iov_base = static_cast<std::byte*>(vectors[0].iov_base) + bytes;
  vectors[0].iov_len -= bytes;
}

// All of it, over what the file system gives back at once. `vectors` is used up.
bool transfer_all(int fd, std::vector<iovec>& vectors, uint64_t offset, bool to_guest) {
  while (!vectors.empty()) {
    const int count = static_cast<int>(std::min<size_t>(vectors.size(), IOV_MAX));
    const ssize_t done = to_guest ? preadv(fd, vectors.data(), count, static_cast<off_t>(offset))
                                  : pwritev(fd, vectors.data(), count, static_cast<off_t>(offset));
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) return false;  // the file became shorter than the disk, or failed
    offset += static_cast<uint64_t>(done);
    skip(vectors, static_cast<uint64_t>(done));
  }
  return true;
}

}  // namespace

Result<std::unique_ptr<Block>> Block::create(Fd file, BlockOptions options) {
  HOB_TRY(const uint64_t sectors, sectors_of(file));
  HOB_TRY(LimitTimer timer, LimitTimer::create(options.clock));
  std::unique_ptr<Block> block(
      new Block(std::move(file), std::move(options), sectors, std::move(timer)));
  if (block->options_.asynchronous) {
    auto ring = BlockRing::create(kQueueSizeMax, block->file_);
    if (ring) block->ring_ = *std::move(ring);
  }
  if (block->ring_) {
    block->pending_.resize(kQueueSizeMax);
    for (size_t i = 0; i < kQueueSizeMax; ++i) block->free_.push_back(i);
  }
  return block;
}

Block::~Block() { reset(); }

uint64_t Block::features() const {
  return kFeatureVersion1 | kFeatureEventIndex | kSegmentsFeature |
         (options_.read_only ? kReadOnlyFeature : kDiscardFeature) |
         (options_.flushes ? kFlushFeature : 0);
}

void Block::read_configuration(uint64_t offset, std::span<std::byte> data) {
  virtio_blk_config configuration{};
  configuration.capacity = sectors_;
  configuration.seg_max = kQueueSizeMax - 2;  // header and status
  configuration.max_discard_sectors = kDiscardSectorsMax;
  configuration.max_discard_seg = kDiscardRangesMax;
  configuration.discard_sector_alignment = 4096 / kSectorBytes;
  const auto bytes = std::as_bytes(std::span(&configuration, 1));
  for (size_t i = 0; i < data.size(); ++i)
    data[i] = offset + i < bytes.size() ? bytes[offset + i] : std::byte{0};
}

Result<std::string> Block::save() {
  // What was in flight is in memory and file by now: a pause settles it.
  HOB_ASSERT(!ring_ || ring_->in_flight() == 0);
  return encode(BlockState{.sectors = sectors_, .limit = limit_.state()});
}

Result<void> Block::restore(std::string_view state) {
  HOB_TRY(const BlockState block, decode<BlockState>(state));
  if (block.sectors > sectors_)
    return fail(Code::kInvalid, "the drive {} has {} sectors, and had {} in the snapshot",
                options_.id, sectors_, block.sectors);
  sectors_ = block.sectors;
  limit_.restore(block.limit, timer_.now());
  return {};
}

void Block::activate(const Active& active) { active_.emplace(active); }

std::vector<VirtioDevice::Source> Block::sources() const {
  std::vector<Source> sources = {{.fd = timer_.fd(), .events = EPOLLIN}};
  if (ring_) sources.push_back({.fd = ring_->event_fd(), .events = EPOLLIN});
  return sources;
}

VirtioDevice::Progress Block::host_ready(size_t index) {
  ++(index == kTimerSource ? counts_.timer_events : counts_.ring_events);
  if (index == kTimerSource) timer_.fired();
  return notified(0);
}

VirtioDevice::Progress Block::notified(size_t) {
  ++counts_.notices;
  if (ring_) reap();
  if (!active_->queues[0].ready) return Progress::kDone;
  const Progress progress = take_turn(
      *active_, active_->queues[0], chain_, {.bytes = kTurnBytesMax},
      [&] {
        if (ring_ && free_.empty()) return false;  // goes on when one is done
        const bool held = timer_.holds_back(limit_);
        if (held) ++counts_.throttled;
        return !held;
      },
      [&](Chain& chain) { return serve(chain); });
  if (ring_) ring_->submit();
  return progress;
}

void Block::settle() {
  if (!ring_ || !active_) return;
  while (ring_->in_flight() > 0) {
    ring_->wait();
    reap();
  }
  if (active_->queues[0].wants_interrupt(active_->memory)) active_->interrupt.queue_used();
}

void Block::reset() {
  while (ring_ && ring_->in_flight() > 0) {
    ring_->wait();
    while (const auto done = ring_->reap()) free_.push_back(done->token);
  }
  active_.reset();
}

Result<void> Block::replace_file(Fd file) {
  HOB_TRY(const uint64_t sectors, sectors_of(file));
  settle();
  if (ring_) HOB_CHECK(ring_->replace_file(file));
  file_ = std::move(file);
  sectors_ = sectors;
  ++counts_.updates;
  if (active_) active_->interrupt.configuration_changed();
  return {};
}

void Block::set_limit(const RateLimiterOptions& limit) {
  limit_.update(limit, timer_.now());
  timer_.wake();
}

void Block::reap() {
  while (const std::optional<BlockRing::Done> done = ring_->reap()) {
    Pending& pending = pending_[done->token];
    const uint8_t status = outcome(pending, done->result);
    const uint64_t written = pending.kind == BlockRing::Request::Kind::kRead ? pending.bytes : 0;
    active_->queues[0].push_used(active_->memory, pending.chain.head,
                                 finish(pending.chain, status, written));
    free_.push_back(done->token);
  }
}

uint8_t Block::outcome(Pending& pending, int32_t result) {
  using Kind = BlockRing::Request::Kind;
  if (pending.kind == Kind::kFlush) return result == 0 ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR;
  const bool again = result == -EAGAIN || result == -EINTR;
  if (result < 0 && !again) return VIRTIO_BLK_S_IOERR;
  const uint64_t done = again ? 0 : static_cast<uint64_t>(result);
  if (done == pending.bytes) return VIRTIO_BLK_S_OK;
  if (done == 0 && !again) return VIRTIO_BLK_S_IOERR;  // the file became shorter than the disk
  // The file system gave back a part: the rest, at once.
  skip(pending.pieces, done);
  return transfer_all(file_.get(), pending.pieces, pending.offset + done,
                      pending.kind == Kind::kRead)
             ? VIRTIO_BLK_S_OK
             : VIRTIO_BLK_S_IOERR;
}

std::optional<uint32_t> Block::serve(Chain& chain) {
  // The last byte that we may write is the status; without one there is nobody to tell.
  if (chain.writable_bytes == 0 || chain.readable_bytes < kHeaderBytes) {
    ++counts_.failures;
    return 0;
  }
  uint64_t written = 0;
  const std::optional<uint8_t> status = request(chain, written);
  if (!status) return std::nullopt;
  return finish(chain, *status, written);
}

uint32_t Block::finish(const Chain& chain, uint8_t status, uint64_t written) {
  if (status != VIRTIO_BLK_S_OK) {
    ++counts_.failures;
    written = 0;
  }
  const auto byte = static_cast<std::byte>(status);
  if (!copy_out(active_->memory, chain.writable, chain.writable_bytes - 1, std::span(&byte, 1)))
    return 0;
  return static_cast<uint32_t>(written + 1);
}

std::optional<uint8_t> Block::request(Chain& chain, uint64_t& written) {
  virtio_blk_outhdr header{};
  if (!copy_in(active_->memory, chain.readable, 0, std::as_writable_bytes(std::span(&header, 1))))
    return VIRTIO_BLK_S_IOERR;
  const uint64_t to_guest = chain.writable_bytes - 1;
  const uint64_t from_guest = chain.readable_bytes - kHeaderBytes;
  switch (header.type) {
    case VIRTIO_BLK_T_IN:
      ++counts_.reads;
      counts_.read_bytes += to_guest;
      written = to_guest;
      return transfer(chain, to_guest, header.sector, true);
    case VIRTIO_BLK_T_OUT:
      if (options_.read_only) return VIRTIO_BLK_S_IOERR;
      ++counts_.writes;
      counts_.write_bytes += from_guest;
      return transfer(chain, from_guest, header.sector, false);
    case VIRTIO_BLK_T_FLUSH:
      if (!options_.flushes) return VIRTIO_BLK_S_OK;  // not offered: nothing was promised
      ++counts_.flushes;
      return flush(chain);
    case VIRTIO_BLK_T_GET_ID: {
      std::array<std::byte, VIRTIO_BLK_ID_BYTES> id{};
      const auto name =
          std::as_bytes(std::span(options_.id)).first(std::min(options_.id.size(), id.size()));
      std::ranges::copy(name, id.begin());
      if (to_guest < id.size() || !copy_out(active_->memory, chain.writable, 0, id))
        return VIRTIO_BLK_S_IOERR;
      written = id.size();
      return VIRTIO_BLK_S_OK;
    }
    case VIRTIO_BLK_T_DISCARD:
      if (options_.read_only) return VIRTIO_BLK_S_IOERR;
      ++counts_.discards;
      return discard(chain);
    default:
      return VIRTIO_BLK_S_UNSUPP;
  }
}

std::optional<uint8_t> Block::transfer(Chain& chain, uint64_t bytes, uint64_t sector,
                                       bool to_guest) {
  limit_.charge(bytes);
  if (bytes % kSectorBytes != 0 || sector > sectors_ || bytes / kSectorBytes > sectors_ - sector)
    return VIRTIO_BLK_S_IOERR;
  if (!io_ranges(active_->memory, to_guest ? chain.writable : chain.readable,
                 to_guest ? 0 : kHeaderBytes, bytes, to_guest, vectors_))
    return VIRTIO_BLK_S_IOERR;
  const uint64_t offset = sector * kSectorBytes;
  if (!ring_ || bytes == 0)
    return transfer_all(file_.get(), vectors_, offset, to_guest) ? VIRTIO_BLK_S_OK
                                                                 : VIRTIO_BLK_S_IOERR;
  using Kind = BlockRing::Request::Kind;
  Pending& pending = put_in_flight(chain, to_guest ? Kind::kRead : Kind::kWrite);
  std::swap(pending.pieces, vectors_);
  pending.offset = offset;
  pending.bytes = bytes;
  ring_->add({.kind = pending.kind,
              .pieces = pending.pieces,
              .offset = offset,
              .token = static_cast<uint64_t>(&pending - pending_.data())});
  return std::nullopt;
}

std::optional<uint8_t> Block::flush(Chain& chain) {
  if (!ring_) return fdatasync(file_.get()) == 0 ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR;
  // What it has to cover was told to be done before: so it need not wait for what is in flight.
  Pending& pending = put_in_flight(chain, BlockRing::Request::Kind::kFlush);
  ring_->add({.kind = pending.kind, .token = static_cast<uint64_t>(&pending - pending_.data())});
  return std::nullopt;
}

Block::Pending& Block::put_in_flight(Chain& chain, BlockRing::Request::Kind kind) {
  Pending& pending = pending_[free_.back()];
  free_.pop_back();
  std::swap(pending.chain, chain);
  pending.kind = kind;
  pending.bytes = 0;
  return pending;
}

uint8_t Block::discard(const Chain& chain) {
  const uint64_t bytes = chain.readable_bytes - kHeaderBytes;
  constexpr uint64_t kRangeBytes = sizeof(virtio_blk_discard_write_zeroes);
  if (bytes == 0 || bytes % kRangeBytes != 0 || bytes / kRangeBytes > kDiscardRangesMax)
    return VIRTIO_BLK_S_IOERR;
  std::array<virtio_blk_discard_write_zeroes, kDiscardRangesMax> ranges{};
  const auto given = std::span(ranges).first(bytes / kRangeBytes);
  if (!copy_in(active_->memory, chain.readable, kHeaderBytes, std::as_writable_bytes(given)))
    return VIRTIO_BLK_S_IOERR;
  // All are looked at before any is done.
  for (const auto& range : given) {
    if (range.flags != 0) return VIRTIO_BLK_S_UNSUPP;
    if (range.num_sectors > kDiscardSectorsMax || range.sector > sectors_ ||
        range.num_sectors > sectors_ - range.sector)
      return VIRTIO_BLK_S_IOERR;
  }
  for (const auto& range : given) {
    if (range.num_sectors == 0) continue;
    // A hint: a file system that cannot is no failure.
    if (fallocate(file_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                  static_cast<off_t>(range.sector) * kSectorBytes,
                  static_cast<off_t>(range.num_sectors) * kSectorBytes) < 0 &&
        errno != EOPNOTSUPP)
      return VIRTIO_BLK_S_IOERR;
  }
  return VIRTIO_BLK_S_OK;
}

}  // namespace hob::microvm
