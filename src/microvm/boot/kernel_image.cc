#include "microvm/boot/kernel_image.h"

#include <elf.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "microvm/layout.h"

namespace hob::microvm {
namespace {

constexpr uint32_t kXenPhys32Entry = 18;  // XEN_ELFNOTE_PHYS32_ENTRY
constexpr uint64_t kEntry64Offset =
    0x200;  // Documentation/arch/x86/boot.rst, "64-bit boot protocol"
constexpr uint64_t kSetupHeaderOffset = 0x1f1;
constexpr uint16_t kBootProtocolMin = 0x020c;  // the first with xloadflags
constexpr uint16_t kLoadFlag64 = 1;

Result<uint64_t> file_bytes(int fd) {
  struct stat status {};
  if (fstat(fd, &status) < 0) return fail_errno(errno, "looking at the file");
  if (!S_ISREG(status.st_mode)) return fail(Code::kInvalid, "it is no regular file");
  return static_cast<uint64_t>(status.st_size);
}

// All of `bytes` at `offset`, or an error.
Result<void> read_at(int fd, void* into, uint64_t bytes, uint64_t offset) {
  auto* to = static_cast<std::byte*>(into);
  while (bytes > 0) {
    const ssize_t got = pread(fd, to, bytes, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno(errno, "reading the file");
    if (got == 0) return fail(Code::kInvalid, "the file ends before its headers say");
    to += got;
    bytes -= static_cast<uint64_t>(got);
    offset += static_cast<uint64_t>(got);
  }
  return {};
}

Result<void> read_into_guest(int fd, GuestMemory& memory, GuestAddress address, uint64_t bytes,
                             uint64_t offset) {
  if (bytes == 0) return {};
  const std::optional<iovec> range = memory.io_range(address, bytes);
  if (!range)
    return fail(Code::kInvalid, "{} bytes at {:#x} do not fit into the guest's memory", bytes,
                address);
  HOB_CHECK(read_at(fd, range->iov_base, bytes, offset));
  memory.mark_dirty(address, bytes);
  return {};
}

// The 32-bit entry that a note of Xen's names, if there is one. Notes are 4-byte aligned (ELF64 in
// Linux, too).
std::optional<uint32_t> pvh_entry(std::span<const std::byte> notes) {
  constexpr auto padded = [](uint64_t bytes) { return (bytes + 3) & ~uint64_t{3}; };
  size_t at = 0;
  while (notes.size() - at >= sizeof(Elf64_Nhdr)) {
    Elf64_Nhdr note;
    std::memcpy(&note, notes.data() + at, sizeof note);
    const uint64_t name_at = at + sizeof note;
    const uint64_t value_at = name_at + padded(note.n_namesz);
    const uint64_t next = value_at + padded(note.n_descsz);
    if (next > notes.size()) return std::nullopt;
    uint32_t entry = 0;
    if (note.n_type == kXenPhys32Entry && note.n_namesz == 4 && note.n_descsz >= sizeof entry &&
        std::memcmp(notes.data() + name_at, "Xen", 4) == 0) {
      std::memcpy(&entry, notes.data() + value_at, sizeof entry);
      return entry;
    }
    at = next;
  }
  return std::nullopt;
}

Result<Kernel> load_elf(int fd, uint64_t size, GuestMemory& memory) {
  Elf64_Ehdr header;
  if (size < sizeof header) return fail(Code::kInvalid, "it is too short for an ELF file");
  HOB_CHECK(read_at(fd, &header, sizeof header, 0));
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB ||
      header.e_machine != EM_X86_64)
    return fail(Code::kInvalid, "it is an ELF file, but not for x86-64");
  if (header.e_type != ET_EXEC && header.e_type != ET_DYN)
    return fail(Code::kInvalid, "it is an ELF file that cannot be started (type {})",
                header.e_type);
  if (header.e_phentsize != sizeof(Elf64_Phdr) || header.e_phnum == 0 ||
      header.e_phnum > kProgramHeadersMax)
    return fail(Code::kInvalid, "its ELF program headers are malformed");
  std::vector<Elf64_Phdr> segments(header.e_phnum);
  const uint64_t table_bytes = segments.size() * sizeof(Elf64_Phdr);
  if (header.e_phoff > size || table_bytes > size - header.e_phoff)
    return fail(Code::kInvalid, "its ELF program headers lie outside of the file");
  HOB_CHECK(read_at(fd, segments.data(), table_bytes, header.e_phoff));

  Kernel kernel{.protocol = BootProtocol::kLinux64, .entry = header.e_entry};
  bool loaded = false;
  for (const Elf64_Phdr& segment : segments) {
    if (segment.p_type != PT_LOAD && segment.p_type != PT_NOTE) continue;
    if (segment.p_offset > size || segment.p_filesz > size - segment.p_offset)
      return fail(Code::kInvalid, "an ELF segment lies outside of the file");
    if (segment.p_type == PT_NOTE) {
      if (segment.p_filesz == 0 || segment.p_filesz > kNotesBytesMax) continue;
      std::vector<std::byte> notes(segment.p_filesz);
      HOB_CHECK(read_at(fd, notes.data(), notes.size(), segment.p_offset));
      if (const auto entry = pvh_entry(notes)) {
        kernel.protocol = BootProtocol::kPvh;
        kernel.entry = *entry;
      }
      continue;
    }
    if (segment.p_memsz == 0) continue;
    if (segment.p_filesz > segment.p_memsz)
      return fail(Code::kInvalid, "an ELF segment is larger than its memory");
    if (segment.p_paddr < layout::kHighMemory || !memory.contains(segment.p_paddr, segment.p_memsz))
      return fail(Code::kInvalid,
                  "an ELF segment of {} bytes at {:#x} does not fit into the guest's memory",
                  segment.p_memsz, segment.p_paddr);
    HOB_CHECK(read_into_guest(fd, memory, segment.p_paddr, segment.p_filesz, segment.p_offset));
    kernel.end = std::max<GuestAddress>(kernel.end, segment.p_paddr + segment.p_memsz);
    loaded = true;
  }
  if (!loaded) return fail(Code::kInvalid, "the ELF file has nothing to load");
  if (kernel.entry < layout::kHighMemory || kernel.entry >= kernel.end)
    return fail(Code::kInvalid, "its entry {:#x} lies outside of what it loads", kernel.entry);
  return kernel;
}

template <class T>
T field(std::span<const std::byte> header, size_t file_offset) {
  T value;
  std::memcpy(&value, header.data() + file_offset, sizeof value);
  return value;
}

Result<Kernel> load_bzimage(int fd, uint64_t size, GuestMemory& memory) {
  // Offsets as in Documentation/arch/x86/boot.rst.
  std::vector<std::byte> first(0x300);
  if (size < first.size()) return fail(Code::kInvalid, "it is neither an ELF file nor a bzImage");
  HOB_CHECK(read_at(fd, first.data(), first.size(), 0));
  if (field<uint16_t>(first, 0x1fe) != 0xaa55 || std::memcmp(first.data() + 0x202, "HdrS", 4) != 0)
    return fail(Code::kInvalid, "it is neither an ELF file nor a bzImage");
  if (field<uint16_t>(first, 0x206) < kBootProtocolMin ||
      (field<uint16_t>(first, 0x236) & kLoadFlag64) == 0)
    return fail(Code::kInvalid, "the bzImage has no 64-bit entry");
  const uint64_t sectors = std::to_integer<uint64_t>(first[kSetupHeaderOffset]);
  const uint64_t payload_at = ((sectors == 0 ? 4 : sectors) + 1) * 512;
  if (payload_at >= size) return fail(Code::kInvalid, "the bzImage ends before its kernel");
  const uint64_t payload = size - payload_at;
  const uint64_t needed = std::max<uint64_t>(payload, field<uint32_t>(first, 0x260));
  if (!memory.contains(layout::kHighMemory, needed))
    return fail(Code::kInvalid, "the kernel needs {} bytes, which the guest's memory does not have",
                needed);
  if (payload <= kEntry64Offset) return fail(Code::kInvalid, "the bzImage ends before its entry");
  HOB_CHECK(read_into_guest(fd, memory, layout::kHighMemory, payload, payload_at));
  Kernel kernel{.protocol = BootProtocol::kLinux64,
                .entry = layout::kHighMemory + kEntry64Offset,
                .end = layout::kHighMemory + needed};
  // The header's own length: its end is 0x202 plus the byte at 0x201.
  const uint64_t header_end = 0x202 + std::to_integer<uint64_t>(first[0x201]);
  const uint64_t header_bytes = std::min(header_end - kSetupHeaderOffset, kSetupHeaderBytesMax);
  kernel.setup_header.assign(
      first.begin() + kSetupHeaderOffset,
      first.begin() + kSetupHeaderOffset + static_cast<ptrdiff_t>(header_bytes));
  return kernel;
}

}  // namespace

Result<Kernel> load_kernel(int fd, GuestMemory& memory) {
  HOB_TRY(const uint64_t size, file_bytes(fd));
  unsigned char magic[SELFMAG] = {};
  if (size >= SELFMAG) HOB_CHECK(read_at(fd, magic, SELFMAG, 0));
  if (std::memcmp(magic, ELFMAG, SELFMAG) == 0) return load_elf(fd, size, memory);
  return load_bzimage(fd, size, memory);
}

Result<Initrd> load_initrd(int fd, GuestMemory& memory, GuestAddress floor) {
  HOB_TRY(const uint64_t size, file_bytes(fd));
  if (size == 0) return fail(Code::kInvalid, "it is empty");
  const GuestMemory::Region& low = memory.regions().front();
  const GuestAddress top = low.base + low.bytes;
  if (size > top || (top - size) / kPageBytes * kPageBytes < floor)
    return fail(Code::kInvalid, "{} bytes do not fit into the guest's memory above the kernel",
                size);
  const GuestAddress address = (top - size) / kPageBytes * kPageBytes;
  HOB_CHECK(read_into_guest(fd, memory, address, size, 0));
  return Initrd{.address = address, .bytes = size};
}

}  // namespace hob::microvm
