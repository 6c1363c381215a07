// The guest's memory, and the only way to it.
//
// The guest changes its memory while we look, so nothing here hands out a reference to a value in
// it: values are copied in and out in one access each (never read twice by the compiler's choice),
// and bytes go to and from the kernel by address. Every address and length comes from the guest and
// is checked; what does not lie wholly inside one region is refused. Any thread; the regions do not
// change after `create`, but for the blocks of one range that may be plugged in and out.
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <type_traits>
#include <vector>

#include "base/result.h"

namespace hob::microvm {

using GuestAddress = uint64_t;  // guest-physical

inline constexpr uint64_t kPageBytes = 4096;

// Which pages were written by us since the last look (KVM keeps the same for the guest's own
// writes).
class DirtyPages {
 public:
  explicit DirtyPages(uint64_t pages) : words_((pages + 63) / 64) {}
  void mark(uint64_t first_page, uint64_t count);
  // Bit i of word w: page 64 w + i.
  void mark(std::span<const uint64_t> pages);
  std::vector<uint64_t> pages() const;
  void clear();

 private:
  std::vector<std::atomic<uint64_t>> words_;
};

struct FileId {
  dev_t device = 0;
  ino_t inode = 0;
  bool operator==(const FileId&) const = default;
};

class GuestMemory {
 public:
  struct Region {
    GuestAddress base = 0;
    uint64_t bytes = 0;
    std::byte* host = nullptr;
  };
  enum class Pages {
    kNormal,
    kTransparentHuge,  // madvise: 2 MiB pages where the kernel has them
    kHuge,             // hugetlbfs, 2 MiB: kUnavailable where the host has reserved none
  };

  // Anonymous, zero, private to this process. `ranges`: ascending, apart, whole pages (kHuge: whole
  // 2 MiB). kUnavailable: the host has not got it.
  static Result<GuestMemory> create(std::span<const Region> ranges, Pages pages, bool track_dirty);

  GuestMemory(GuestMemory&&) noexcept = default;
  GuestMemory& operator=(GuestMemory&&) = delete;
  ~GuestMemory();

  // Once, before it is used: a range beside the regions, `bytes` in blocks of `block_bytes` each,
  // of which none is memory yet.
  Result<void> add_hot_range(GuestAddress base, uint64_t bytes, uint64_t block_bytes, Pages pages);
  const Region& hot_range() const { return hot_.range; }
  // Whole blocks of it, which are zero from then on; one thread at a time. kUnavailable: the host
  // refuses.
  Result<void> plug(GuestAddress address, uint64_t bytes);
  // Nobody may be about to use them.
  Result<void> unplug(GuestAddress address, uint64_t bytes);
  // True: some block that begins in [address, address + bytes) of it is plugged in.
  bool any_plugged(GuestAddress address, uint64_t bytes) const;

  // What it began with, the hot range apart.
  std::span<const Region> regions() const { return regions_; }
  uint64_t bytes() const;

  // True: [address, address + bytes) is memory, all of it in one region. An empty range is never.
  bool contains(GuestAddress address, uint64_t bytes) const {
    return find(address, bytes) != nullptr;
  }

  // One access for a naturally aligned integer, a copy for anything else. nullopt/false: not
  // memory.
  template <class T>
  requires std::is_trivially_copyable_v<T> std::optional<T> read(GuestAddress address)
  const {
    const std::byte* from = find(address, sizeof(T));
    if (from == nullptr) return std::nullopt;
    T value;
    load(&value, from, sizeof(T));
    return value;
  }
  template <class T>
  requires std::is_trivially_copyable_v<T>
  [[nodiscard]] bool write(GuestAddress address, const T& value) {
    std::byte* to = find(address, sizeof(T));
    if (to == nullptr) return false;
    store(to, &value, sizeof(T));
    mark_dirty(address, sizeof(T));
    return true;
  }
  [[nodiscard]] bool read_bytes(GuestAddress address, std::span<std::byte> into) const;
  [[nodiscard]] bool write_bytes(GuestAddress address, std::span<const std::byte> from);

  // For readv, writev and io_uring: the kernel alone touches what it says. nullopt: not memory.
  std::optional<iovec> io_range(GuestAddress address, uint64_t bytes) const;
  // Says that bytes were written there by such a call.
  void mark_dirty(GuestAddress address, uint64_t bytes);
  // One set for each region, in their order; empty without tracking.
  std::span<DirtyPages> dirty() { return dirty_; }

  // Gives the whole pages in it back to the host; what is read there next is zero, or the mapped
  // file's. Nothing where it is not memory.
  void discard(GuestAddress address, uint64_t bytes);

  // Puts a file's pages in the place of memory's, private, copied when written: the regions one
  // after the other in the file, which is the state before anything is written.
  Result<void> back_by(int fd, FileId file);
  const std::optional<FileId>& backing() const { return backing_; }
  // Its content comes from elsewhere, page by page.
  void filled_by_another() { began_zero_ = false; }
  bool began_zero() const { return began_zero_; }

 private:
  // Blocks that come and go. No region: `range` has no bytes.
  struct HotRange {
    Region range{};
    uint64_t block_bytes = 0;
    std::unique_ptr<std::atomic<bool>[]> plugged {};  // by block
    // True: each block of [offset, offset + bytes) is, or some is.
    bool all(uint64_t offset, uint64_t bytes) const;
    bool any(uint64_t offset, uint64_t bytes) const;
  };
  GuestMemory() = default;
  std::byte* find(GuestAddress address, uint64_t bytes) const;
  void mark_plugged(GuestAddress address, uint64_t bytes, bool plugged);
  static void load(void* into, const std::byte* from, size_t bytes);
  static void store(std::byte* to, const void* from, size_t bytes);

  std::vector<Region> regions_;
  std::vector<DirtyPages> dirty_;
  HotRange hot_;
  std::optional<FileId> backing_;
  bool began_zero_ = true;
};

}  // namespace hob::microvm
