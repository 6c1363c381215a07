#include "microvm/virtio/block.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/virtio_blk.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "microvm/snapshot/encoding.h"
#include "microvm/virtio/segments.h"

namespace hob::microvm {
namespace {

constexpr uint64_t kSegmentsFeature = uint64_t{1} << VIRTIO_BLK_F_SEG_MAX;
constexpr uint64_t kReadOnlyFeature = uint64_t{1} << VIRTIO_BLK_F_RO;
constexpr uint64_t kFlushFeature = uint64_t{1} << VIRTIO_BLK_F_FLUSH;
constexpr uint64_t kDiscardFeature = uint64_t{1} << VIRTIO_BLK_F_DISCARD;
constexpr uint32_t kHeaderBytes = sizeof(virtio_blk_outhdr);

// All of it, over what the file system gives back at once. `vectors` is used up.
bool transfer_all(int fd, std::vector<iovec>& vectors, uint64_t offset, bool to_guest) {
  size_t first = 0;
  while (first < vectors.size()) {
    const int count = static_cast<int>(std::min<size_t>(vectors.size() - first, IOV_MAX));
    const ssize_t done = to_guest ? preadv(fd, &vectors[first], count, static_cast<off_t>(offset))
                                  : pwritev(fd, &vectors[first], count, static_cast<off_t>(offset));
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) return false;  // the file became shorter than the disk, or failed
    offset += static_cast<uint64_t>(done);
    auto left = static_cast<size_t>(done);
    while (first < vectors.size() && left >= vectors[first].iov_len)
      left -= vectors[first++].iov_len;
    if (left > 0) {
      vectors[first].iov_base = static_cast<std::byte*>(vectors[first].iov_base) + left;
      vectors[first].iov_len -= left;
    }
  }
  return true;
}

}  // namespace

Result<std::unique_ptr<Block>> Block::create(Fd file, BlockOptions options) {
  const off_t bytes = lseek(file.get(), 0, SEEK_END);
  if (bytes < 0) return fail_errno(errno, "looking at the disk's size");
  return std::unique_ptr<Block>(
      new Block(std::move(file), std::move(options), static_cast<uint64_t>(bytes) / kSectorBytes));
}

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

Result<std::string> Block::save() { return encode(BlockState{.sectors = sectors_}); }

Result<void> Block::restore(std::string_view state) {
  HOB_TRY(const BlockState block, decode<BlockState>(state));
  if (block.sectors > sectors_)
    return fail(Code::kInvalid, "the drive {} has {} sectors, and had {} in the snapshot",
                options_.id, sectors_, block.sectors);
  sectors_ = block.sectors;
  return {};
}

void Block::activate(const Active& active) { active_.emplace(active); }

VirtioDevice::Progress Block::notified(size_t) {
  Queue& queue = active_->queues[0];
  GuestMemory& memory = active_->memory;
  Progress progress = Progress::kDone;
  // A queue's worth, then others' turn.
  uint64_t bytes = 0;
  for (int count = 0;; ++count) {
    if (count == kQueueSizeMax || bytes >= kTurnBytesMax) {
      progress = Progress::kMore;
      break;
    }
    const Queue::Popped popped = queue.pop(memory, chain_);
    if (popped == Queue::Popped::kBroken) {
      active_->interrupt.needs_reset();
      return Progress::kDone;
    }
    if (popped == Queue::Popped::kEmpty) {
      if (queue.enable_notification(memory)) continue;
      break;
    }
    bytes += chain_.readable_bytes + chain_.writable_bytes;
    queue.push_used(memory, chain_.head, serve(memory, chain_));
  }
  if (queue.wants_interrupt(memory)) active_->interrupt.queue_used();
  return progress;
}

uint32_t Block::serve(GuestMemory& memory, const Chain& chain) {
  // The last byte that we may write is the status; without one there is nobody to tell.
  if (chain.writable_bytes == 0 || chain.readable_bytes < kHeaderBytes) {
    ++counts_.failures;
    return 0;
  }
  uint32_t written = 0;
  const uint8_t status = request(memory, chain, written);
  if (status != VIRTIO_BLK_S_OK) {
    ++counts_.failures;
    written = 0;
  }
  const auto byte = static_cast<std::byte>(status);
  if (!copy_out(memory, chain.writable, chain.writable_bytes - 1, std::span(&byte, 1))) return 0;
  return written + 1;
}

uint8_t Block::request(GuestMemory& memory, const Chain& chain, uint32_t& written) {
  virtio_blk_outhdr header{};
  if (!copy_in(memory, chain.readable, 0, std::as_writable_bytes(std::span(&header, 1))))
    return VIRTIO_BLK_S_IOERR;
  const uint64_t to_guest = chain.writable_bytes - 1;
  const uint64_t from_guest = chain.readable_bytes - kHeaderBytes;
  switch (header.type) {
    case VIRTIO_BLK_T_IN:
      ++counts_.reads;
      counts_.read_bytes += to_guest;
      written = static_cast<uint32_t>(to_guest);
      return transfer(memory, chain.writable, to_guest, header.sector, true);
    case VIRTIO_BLK_T_OUT:
      if (options_.read_only) return VIRTIO_BLK_S_IOERR;
      ++counts_.writes;
      counts_.write_bytes += from_guest;
      return transfer(memory, chain.readable, from_guest, header.sector, false);
    case VIRTIO_BLK_T_FLUSH:
      if (!options_.flushes) return VIRTIO_BLK_S_OK;  // not offered: nothing was promised
      ++counts_.flushes;
      return fdatasync(file_.get()) == 0 ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR;
    case VIRTIO_BLK_T_GET_ID: {
      std::array<std::byte, VIRTIO_BLK_ID_BYTES> id{};
      const auto name =
          std::as_bytes(std::span(options_.id)).first(std::min(options_.id.size(), id.size()));
      std::ranges::copy(name, id.begin());
      if (to_guest < id.size() || !copy_out(memory, chain.writable, 0, id))
        return VIRTIO_BLK_S_IOERR;
      written = static_cast<uint32_t>(id.size());
      return VIRTIO_BLK_S_OK;
    }
    case VIRTIO_BLK_T_DISCARD:
      if (options_.read_only) return VIRTIO_BLK_S_IOERR;
      ++counts_.discards;
      return discard(memory, chain);
    default:
      return VIRTIO_BLK_S_UNSUPP;
  }
}

uint8_t Block::transfer(GuestMemory& memory, std::span<const Segment> data, uint64_t bytes,
                        uint64_t sector, bool to_guest) {
  if (bytes % kSectorBytes != 0 || sector > sectors_ || bytes / kSectorBytes > sectors_ - sector)
    return VIRTIO_BLK_S_IOERR;
  if (!io_ranges(memory, data, to_guest ? 0 : kHeaderBytes, bytes, to_guest, vectors_))
    return VIRTIO_BLK_S_IOERR;
  return transfer_all(file_.get(), vectors_, sector * kSectorBytes, to_guest) ? VIRTIO_BLK_S_OK
                                                                              : VIRTIO_BLK_S_IOERR;
}

uint8_t Block::discard(GuestMemory& memory, const Chain& chain) {
  const uint64_t bytes = chain.readable_bytes - kHeaderBytes;
  constexpr uint64_t kRangeBytes = sizeof(virtio_blk_discard_write_zeroes);
  if (bytes == 0 || bytes % kRangeBytes != 0 || bytes / kRangeBytes > kDiscardRangesMax)
    return VIRTIO_BLK_S_IOERR;
  std::array<virtio_blk_discard_write_zeroes, kDiscardRangesMax> ranges{};
  const auto given = std::span(ranges).first(bytes / kRangeBytes);
  if (!copy_in(memory, chain.readable, kHeaderBytes, std::as_writable_bytes(given)))
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
