// Parts of a chain as if its segments were one run of bytes.
#pragma once

#include <sys/uio.h>

#include <span>
#include <vector>

#include "microvm/memory/guest_memory.h"
#include "microvm/virtio/queue.h"

namespace hob::microvm {

// False: there are not so many bytes from `offset` on.
bool copy_in(const GuestMemory& memory, std::span<const Segment> segments, uint64_t offset,
             std::span<std::byte> into);
bool copy_out(GuestMemory& memory, std::span<const Segment> segments, uint64_t offset,
              std::span<const std::byte> from);
// `vectors` become the host's addresses of [offset, offset + bytes), for readv and the like;
// `will_write` marks them dirty.
bool io_ranges(GuestMemory& memory, std::span<const Segment> segments, uint64_t offset,
               uint64_t bytes, bool will_write, std::vector<iovec>& vectors);

}  // namespace hob::microvm
