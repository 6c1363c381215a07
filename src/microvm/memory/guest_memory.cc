#include "microvm/memory/guest_memory.h"

#include <linux/mman.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "base/assert.h"

namespace hob::microvm {
namespace {

// An access that the compiler may neither repeat nor split, where the hardware has one of that
// size.
template <class Word>
void load_word(void* into, const std::byte* from) {
  const Word value = __atomic_load_n(reinterpret_cast<const Word*>(from), __ATOMIC_RELAXED);
  std::memcpy(into, &value, sizeof value);
}
template <class Word>
void store_word(std::byte* to, const void* from) {
  Word value;
  std::memcpy(&value, from, sizeof value);
  __atomic_store_n(reinterpret_cast<Word*>(to), value, __ATOMIC_RELAXED);
}

// At a multiple of 2 MiB, as every region's guest address is: KVM maps a large page only where both
// addresses are, and without that each 4 KiB of the guest's first touches is an exit. nullptr:
// errno tells.
std::byte* map_aligned(uint64_t bytes, bool huge) {
  constexpr uint64_t kAlignment = 2 << 20;
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  const uint64_t spare = huge ? 0 : kAlignment;  // hugetlbfs aligns by itself
  void* mapped = mmap(nullptr, bytes + spare, PROT_READ | PROT_WRITE,
                      flags | (huge ? MAP_HUGETLB | MAP_HUGE_2MB : 0), -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  auto* start = static_cast<std::byte*>(mapped);
  const uint64_t before =
      huge ? 0 : (kAlignment - reinterpret_cast<uintptr_t>(start) % kAlignment) % kAlignment;
  if (before > 0) munmap(start, before);
  if (spare > before) munmap(start + before + bytes, spare - before);
  return start + before;
}

Result<void> map_pages(std::byte* host, int fd, uint64_t offset, uint64_t bytes) {
  if (mmap(host, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, fd,
           static_cast<off_t>(offset)) == MAP_FAILED)
    return fail_errno(errno, "mapping a file into the guest's memory");
  madvise(host, bytes, MADV_DONTDUMP);
  return {};
}

bool aligned(const std::byte* pointer, size_t bytes) {
  return reinterpret_cast<uintptr_t>(pointer) % bytes == 0;
}

}  // namespace

void DirtyPages::mark(uint64_t first_page, uint64_t count) {
  for (uint64_t page = first_page; page < first_page + count; ++page) {
    std::atomic<uint64_t>& word = words_[page / 64];
    const uint64_t bit = uint64_t{1} << (page % 64);
    if ((word.load(std::memory_order_relaxed) & bit) == 0)
      word.fetch_or(bit, std::memory_order_relaxed);
  }
}

void DirtyPages::mark(std::span<const uint64_t> pages) {
  HOB_ASSERT(pages.size() == words_.size());
  for (size_t i = 0; i < words_.size(); ++i)
    words_[i].fetch_or(pages[i], std::memory_order_relaxed);
}

std::vector<uint64_t> DirtyPages::pages() const {
  std::vector<uint64_t> pages(words_.size());
  for (size_t i = 0; i < words_.size(); ++i) pages[i] = words_[i].load(std::memory_order_relaxed);
  return pages;
}

void DirtyPages::clear() {
  for (std::atomic<uint64_t>& word : words_) word.store(0, std::memory_order_relaxed);
}

Result<GuestMemory> GuestMemory::create(std::span<const Region> ranges, Pages pages,
                                        bool track_dirty) {
  GuestMemory memory;
  memory.regions_.reserve(ranges.size());
  for (const Region& range : ranges) {
    HOB_ASSERT(range.bytes > 0 && range.base % kPageBytes == 0 && range.bytes % kPageBytes == 0);
    std::byte* host = map_aligned(range.bytes, pages == Pages::kHuge);
    if (host == nullptr)
      return fail_errno(errno, fmt::format("mapping {} bytes of guest memory", range.bytes));
    if (pages == Pages::kTransparentHuge) madvise(host, range.bytes, MADV_HUGEPAGE);
    // A core file of ours holds nothing of the guest's.
    madvise(host, range.bytes, MADV_DONTDUMP);
    memory.regions_.push_back({.base = range.base, .bytes = range.bytes, .host = host});
    if (track_dirty) memory.dirty_.emplace_back(range.bytes / kPageBytes);
  }
  return memory;
}

GuestMemory::~GuestMemory() {
  if (hot_.range.host != nullptr) munmap(hot_.range.host, hot_.range.bytes);
  for (const Region& region : regions_) munmap(region.host, region.bytes);
}

uint64_t GuestMemory::bytes() const {
  uint64_t sum = 0;
  for (const Region& region : regions_) sum += region.bytes;
  return sum;
}

std::byte* GuestMemory::find(GuestAddress address, uint64_t bytes) const {
  for (const Region& region : regions_) {
    if (address < region.base || address - region.base >= region.bytes) continue;
    const uint64_t offset = address - region.base;
    if (bytes == 0 || bytes > region.bytes - offset) return nullptr;
    return region.host + offset;
  }
  if (address < hot_.range.base || address - hot_.range.base >= hot_.range.bytes) return nullptr;
  const uint64_t offset = address - hot_.range.base;
  const bool there = bytes > 0 && bytes <= hot_.range.bytes - offset && hot_.all(offset, bytes);
  return there ? hot_.range.host + offset : nullptr;
}

bool GuestMemory::HotRange::all(uint64_t offset, uint64_t bytes) const {
  for (uint64_t block = offset / block_bytes; block <= (offset + bytes - 1) / block_bytes; ++block)
    if (!plugged[block].load(std::memory_order_acquire)) return false;
  return true;
}

bool GuestMemory::HotRange::any(uint64_t offset, uint64_t bytes) const {
  for (uint64_t block = offset / block_bytes; block <= (offset + bytes - 1) / block_bytes; ++block)
    if (plugged[block].load(std::memory_order_acquire)) return true;
  return false;
}

Result<void> GuestMemory::add_hot_range(GuestAddress base, uint64_t bytes, uint64_t block_bytes,
                                        Pages pages) {
  HOB_ASSERT(hot_.range.bytes == 0 && bytes > 0 && block_bytes > 0 && bytes % block_bytes == 0);
  HOB_ASSERT(base % kPageBytes == 0 && block_bytes % kPageBytes == 0);
  std::byte* host = map_aligned(bytes, pages == Pages::kHuge);
  if (host == nullptr) return fail_errno(errno, fmt::format("mapping {} bytes to plug in", bytes));
  hot_ = {.range = {.base = base, .bytes = bytes, .host = host},
          .block_bytes = block_bytes,
          .plugged = std::make_unique<std::atomic<bool>[]>(bytes / block_bytes)};
  if (pages == Pages::kTransparentHuge) madvise(host, bytes, MADV_HUGEPAGE);
  madvise(host, bytes, MADV_DONTDUMP);
  // Whoever touches it before it is plugged in shall not get memory for it.
  if (mprotect(host, bytes, PROT_NONE) < 0) return fail_errno(errno, "closing memory to plug in");
  return {};
}

void GuestMemory::mark_plugged(GuestAddress address, uint64_t bytes, bool plugged) {
  HOB_ASSERT(address >= hot_.range.base && bytes <= hot_.range.bytes &&
             address - hot_.range.base <= hot_.range.bytes - bytes);
  const uint64_t first = (address - hot_.range.base) / hot_.block_bytes;
  for (uint64_t block = first; block < first + bytes / hot_.block_bytes; ++block)
    hot_.plugged[block].store(plugged, std::memory_order_release);
}

Result<void> GuestMemory::plug(GuestAddress address, uint64_t bytes) {
  std::byte* host = hot_.range.host + (address - hot_.range.base);
  if (mprotect(host, bytes, PROT_READ | PROT_WRITE) < 0)
    return fail_errno(errno, "plugging in memory");
  mark_plugged(address, bytes, true);
  return {};
}

Result<void> GuestMemory::unplug(GuestAddress address, uint64_t bytes) {
  mark_plugged(address, bytes, false);
  std::byte* host = hot_.range.host + (address - hot_.range.base);
  madvise(host, bytes, MADV_DONTNEED);
  if (mprotect(host, bytes, PROT_NONE) == 0) return {};
  mark_plugged(address, bytes, true);
  return fail_errno(errno, "plugging out memory");
}

bool GuestMemory::any_plugged(GuestAddress address, uint64_t bytes) const {
  return hot_.any(address - hot_.range.base, bytes);
}

void GuestMemory::load(void* into, const std::byte* from, size_t bytes) {
  if (bytes == 1) return load_word<uint8_t>(into, from);
  if (bytes == 2 && aligned(from, 2)) return load_word<uint16_t>(into, from);
  if (bytes == 4 && aligned(from, 4)) return load_word<uint32_t>(into, from);
  if (bytes == 8 && aligned(from, 8)) return load_word<uint64_t>(into, from);
  std::memcpy(into, from, bytes);
}

void GuestMemory::store(std::byte* to, const void* from, size_t bytes) {
  if (bytes == 1) return store_word<uint8_t>(to, from);
  if (bytes == 2 && aligned(to, 2)) return store_word<uint16_t>(to, from);
  if (bytes == 4 && aligned(to, 4)) return store_word<uint32_t>(to, from);
  if (bytes == 8 && aligned(to, 8)) return store_word<uint64_t>(to, from);
  std::memcpy(to, from, bytes);
}

bool GuestMemory::read_bytes(GuestAddress address, std::span<std::byte> into) const {
  if (into.empty()) return true;
  const std::byte* from = find(address, into.size());
  if (from == nullptr) return false;
  std::memcpy(into.data(), from, into.size());
  return true;
}

bool GuestMemory::write_bytes(GuestAddress address, std::span<const std::byte> from) {
  if (from.empty()) return true;
  std::byte* to = find(address, from.size());
  if (to == nullptr) return false;
  std::memcpy(to, from.data(), from.size());
  mark_dirty(address, from.size());
  return true;
}

std::optional<iovec> GuestMemory::io_range(GuestAddress address, uint64_t bytes) const {
  std::byte* host = find(address, bytes);
  if (host == nullptr) return std::nullopt;
  return iovec{.iov_base = host, .iov_len = bytes};
}

void GuestMemory::mark_dirty(GuestAddress address, uint64_t bytes) {
  if (dirty_.empty() || bytes == 0) return;
  for (size_t i = 0; i < regions_.size(); ++i) {
    const Region& region = regions_[i];
    if (address < region.base || address - region.base >= region.bytes) continue;
    const uint64_t offset = address - region.base;
    HOB_ASSERT(bytes <= region.bytes - offset);
    const uint64_t first = offset / kPageBytes;
    dirty_[i].mark(first, (offset + bytes - 1) / kPageBytes - first + 1);
    return;
  }
}

void GuestMemory::discard(GuestAddress address, uint64_t bytes) {
  const GuestAddress first = (address + kPageBytes - 1) / kPageBytes * kPageBytes;
  if (first < address || bytes < first - address) return;
  const uint64_t whole = (bytes - (first - address)) / kPageBytes * kPageBytes;
  std::byte* host = find(first, whole);
  // A hint: pages of 2 MiB go as a whole or not at all.
  if (host != nullptr) madvise(host, whole, MADV_DONTNEED);
}

Result<void> GuestMemory::back_by(int fd, FileId file) {
  uint64_t offset = 0;
  for (const Region& region : regions_) {
    HOB_CHECK(map_pages(region.host, fd, offset, region.bytes));
    offset += region.bytes;
  }
  backing_ = file;
  began_zero_ = false;
  return {};
}

}  // namespace hob::microvm
