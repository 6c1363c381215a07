#include "microvm/snapshot/memory_file.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <optional>

#include "microvm/machine/machine.h"

namespace hob::microvm {
namespace {

// Pages are looked at 64 at a time, a word of a bitmap.
constexpr uint64_t kWordPages = 64;
constexpr uint64_t kAllPages = ~uint64_t{0};

// Of /proc/self/pagemap (Linux's Documentation/admin-guide/mm/pagemap.rst).
constexpr uint64_t kPresent = uint64_t{1} << 63;
constexpr uint64_t kSwapped = uint64_t{1} << 62;
constexpr uint64_t kOfFile = uint64_t{1} << 61;

// Which pages of a private mapping are not its file's any more.
class WrittenPages {
 public:
  WrittenPages() : pagemap_(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC)) {}
  // Of the `count` pages from `host`, at most kWordPages.
  uint64_t operator()(const std::byte* host, uint64_t count) const {
    std::array<uint64_t, kWordPages> entries{};
    const auto wanted = static_cast<ssize_t>(count * sizeof(uint64_t));
    const auto at =
        static_cast<off_t>(reinterpret_cast<uintptr_t>(host) / kPageBytes * sizeof(uint64_t));
    if (!pagemap_ ||
        pread(pagemap_.get(), entries.data(), static_cast<size_t>(wanted), at) != wanted)
      return kAllPages;
    uint64_t written = 0;
    for (uint64_t i = 0; i < count; ++i) {
      const bool ours = (entries[i] & kSwapped) != 0 ||
                        ((entries[i] & kPresent) != 0 && (entries[i] & kOfFile) == 0);
      if (ours) written |= uint64_t{1} << i;
    }
    return written;
  }

 private:
  Fd pagemap_;
};

bool is_zero(const std::byte* page) {
  return page[0] == std::byte{0} && std::memcmp(page, page + 1, kPageBytes - 1) == 0;
}

Result<void> write_all(int fd, const std::byte* from, uint64_t bytes, uint64_t offset) {
  while (bytes > 0) {
    const ssize_t done = pwrite(fd, from, bytes, static_cast<off_t>(offset));
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) return fail_errno(errno, "writing the memory file");
    from += done;
    offset += static_cast<uint64_t>(done);
    bytes -= static_cast<uint64_t>(done);
  }
  return {};
}

// The pages of `wanted` in runs, each one write.
Result<void> write_pages(int fd, const std::byte* host, uint64_t offset, uint64_t wanted) {
  for (uint64_t page = 0; page < kWordPages;) {
    const uint64_t rest = wanted >> page;
    if (rest == 0) break;
    page += static_cast<uint64_t>(std::countr_zero(rest));
    const auto run = static_cast<uint64_t>(std::countr_one(wanted >> page));
    HOB_CHECK(
        write_all(fd, host + page * kPageBytes, run * kPageBytes, offset + page * kPageBytes));
    page += run;
  }
  return {};
}

struct OpenFile {
  Fd file{};
  FileId id{};
  uint64_t bytes = 0;
};

Result<OpenFile> open_regular(const std::string& path, int flags) {
  if (path.contains('\0')) return fail(Code::kInvalid, "the memory file's path has a zero byte");
  OpenFile open;
  open.file = Fd(::open(path.c_str(), flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0600));
  if (!open.file) return fail_errno(errno, "opening the memory file " + path);
  struct stat status {};
  if (fstat(open.file.get(), &status) < 0) return fail_errno(errno, "looking at " + path);
  if (!S_ISREG(status.st_mode)) return fail(Code::kInvalid, "{} is no regular file", path);
  open.id = {.device = status.st_dev, .inode = status.st_ino};
  open.bytes = static_cast<uint64_t>(status.st_size);
  return open;
}

}  // namespace

Result<void> write_memory(GuestMemory& memory, const std::string& path, SnapshotKind kind) {
  HOB_TRY(const OpenFile open, open_regular(path, O_RDWR | O_CREAT));
  const int fd = open.file.get();
  const bool diff = kind == SnapshotKind::kDiff;
  const bool mapped_by_us = memory.backing() == open.id;
  if (diff && open.bytes != 0 && open.bytes != memory.bytes())
    return fail(Code::kInvalid, "{} has {} bytes, a diff of this memory {}", path, open.bytes,
                memory.bytes());
  // What our memory is mapped from must not be cut, not even for a moment.
  if (!diff && !mapped_by_us && ftruncate(fd, 0) < 0)
    return fail_errno(errno, "emptying the memory file");
  if (ftruncate(fd, static_cast<off_t>(memory.bytes())) < 0)
    return fail_errno(errno, "sizing the memory file");
  // Holes read as zero: in a fresh file, zero need not be written. Nor in the diff of a machine
  // that began with zero.
  const bool fresh = open.bytes == 0 || (!diff && !mapped_by_us);
  const bool skip_zero = fresh && (!diff || memory.began_zero());
  const WrittenPages written;
  uint64_t offset = 0;
  for (size_t i = 0; i < memory.regions().size(); ++i) {
    const GuestMemory::Region& region = memory.regions()[i];
    const bool tracked = diff && !memory.dirty().empty();
    const std::vector<uint64_t> dirty =
        tracked ? memory.dirty()[i].pages() : std::vector<uint64_t>();
    const uint64_t pages = region.bytes / kPageBytes;
    for (uint64_t first = 0; first < pages; first += kWordPages) {
      const uint64_t count = std::min(kWordPages, pages - first);
      const std::byte* host = region.host + first * kPageBytes;
      uint64_t wanted = count == kWordPages ? kAllPages : (uint64_t{1} << count) - 1;
      if (tracked)
        wanted &= dirty[first / kWordPages];
      else if (diff && memory.backing())
        wanted &= written(host, count);
      for (uint64_t page = 0; skip_zero && page < count; ++page) {
        const uint64_t bit = uint64_t{1} << page;
        if ((wanted & bit) != 0 && is_zero(host + page * kPageBytes)) wanted &= ~bit;
      }
      HOB_CHECK(write_pages(fd, host, offset + first * kPageBytes, wanted));
    }
    offset += region.bytes;
  }
  if (fdatasync(fd) < 0) return fail_errno(errno, "syncing the memory file");
  return {};
}

Result<GuestMemory> map_memory(const std::string& path, uint64_t bytes, bool track_dirty) {
  HOB_TRY(const OpenFile open, open_regular(path, O_RDONLY));
  if (open.bytes != bytes)
    return fail(Code::kInvalid, "the memory file {} has {} bytes, the snapshot's memory {}", path,
                open.bytes, bytes);
  HOB_TRY(GuestMemory memory,
          GuestMemory::create(memory_ranges(bytes), GuestMemory::Pages::kNormal, track_dirty));
  HOB_CHECK(memory.back_by(open.file.get(), open.id));
  return memory;
}

}  // namespace hob::microvm
