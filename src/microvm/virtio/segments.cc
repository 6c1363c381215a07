#include "microvm/virtio/segments.h"

#include <algorithm>

namespace hob::microvm {
namespace {

// Calls `each(address, bytes)` for the pieces of [offset, offset + bytes). False: there are not so
// many, or it said no.
template <class Each>
bool for_pieces(std::span<const Segment> segments, uint64_t offset, uint64_t bytes, Each each) {
  for (const Segment& segment : segments) {
    if (bytes == 0) return true;
    if (offset >= segment.bytes) {
      offset -= segment.bytes;
      continue;
    }
    const uint64_t piece = std::min(bytes, segment.bytes - offset);
    if (!each(segment.address + offset, piece)) return false;
    bytes -= piece;
    offset = 0;
  }
  return bytes == 0;
}

}  // namespace

bool copy_in(const GuestMemory& memory, std::span<const Segment> segments, uint64_t offset,
             std::span<std::byte> into) {
  return for_pieces(segments, offset, into.size(), [&](GuestAddress address, uint64_t bytes) {
    const bool ok = memory.read_bytes(address, into.first(bytes));
    into = into.subspan(bytes);
    return ok;
  });
}

bool copy_out(GuestMemory& memory, std::span<const Segment> segments, uint64_t offset,
              std::span<const std::byte> from) {
  return for_pieces(segments, offset, from.size(), [&](GuestAddress address, uint64_t bytes) {
    const bool ok = memory.write_bytes(address, from.first(bytes));
    from = from.subspan(bytes);
    return ok;
  });
}

bool io_ranges(GuestMemory& memory, std::span<const Segment> segments, uint64_t offset,
               uint64_t bytes, bool will_write, std::vector<iovec>& vectors) {
  vectors.clear();
  return for_pieces(segments, offset, bytes, [&](GuestAddress address, uint64_t piece) {
    const std::optional<iovec> range = memory.io_range(address, piece);
    if (!range) return false;
    if (will_write) memory.mark_dirty(address, piece);
    vectors.push_back(*range);
    return true;
  });
}

}  // namespace hob::microvm
