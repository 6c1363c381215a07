#include "microvm/snapshot/state_file.h"

#include <fmt/core.h>

#include <array>

#include "microvm/snapshot/encoding.h"

namespace hob::microvm {
namespace {

constexpr std::string_view kMagic = "HOBVMST\x1a";
struct Header {
  char magic[8] = {};
  uint16_t major = 0;
  uint16_t minor = 0;
  uint16_t patch = 0;
  uint16_t zero = 0;
  uint64_t length = 0;
};
static_assert(sizeof(Header) == 24 && kMagic.size() == sizeof Header::magic);

constexpr std::array<uint64_t, 256> crc_table() {
  std::array<uint64_t, 256> table{};
  for (uint64_t i = 0; i < table.size(); ++i) {
    uint64_t value = i;
    for (int bit = 0; bit < 8; ++bit)
      value = (value & 1) != 0 ? value >> 1 ^ 0xc96c5795d7870f42 : value >> 1;
    table[i] = value;
  }
  return table;
}
constexpr std::array<uint64_t, 256> kCrcTable = crc_table();

// The header of a whole file whose checksum is right.
Result<Header> check_file(std::string_view file) {
  Header header{};
  if (!file.starts_with(kMagic)) return fail(Code::kCorrupt, "this is no snapshot of hob-vmm");
  if (file.size() < sizeof header + sizeof(uint64_t))
    return fail(Code::kCorrupt, "the snapshot's state file is cut off");
  std::memcpy(&header, file.data(), sizeof header);
  if (header.length != file.size() - sizeof header - sizeof(uint64_t))
    return fail(Code::kCorrupt, "the snapshot's state file has not the length that it says");
  uint64_t sum = 0;
  std::memcpy(&sum, file.data() + file.size() - sizeof sum, sizeof sum);
  if (sum != crc64(file.substr(0, file.size() - sizeof sum)))
    return fail(Code::kCorrupt, "the snapshot's state file is damaged: its checksum is wrong");
  return header;
}

}  // namespace

uint64_t crc64(std::string_view bytes) {
  uint64_t value = ~uint64_t{0};
  for (const char byte : bytes)
    value = kCrcTable[(value ^ static_cast<uint8_t>(byte)) & 0xff] ^ value >> 8;
  return ~value;
}

std::string SnapshotVersion::text() const { return fmt::format("v{}.{}.{}", major, minor, patch); }

std::string write_state(const SnapshotState& state) {
  const std::string content = encode(state);
  Header header{.major = kSnapshotVersion.major,
                .minor = kSnapshotVersion.minor,
                .patch = kSnapshotVersion.patch,
                .length = content.size()};
  std::memcpy(header.magic, kMagic.data(), kMagic.size());
  std::string file(reinterpret_cast<const char*>(&header), sizeof header);
  file += content;
  const uint64_t sum = crc64(file);
  file.append(reinterpret_cast<const char*>(&sum), sizeof sum);
  return file;
}

Result<SnapshotVersion> read_version(std::string_view file) {
  HOB_TRY(const Header header, check_file(file));
  return SnapshotVersion{.major = header.major, .minor = header.minor, .patch = header.patch};
}

Result<SnapshotState> read_state(std::string_view file) {
  if (file.size() > kStateBytesMax)
    return fail(Code::kCorrupt, "the snapshot's state file is over {} bytes", kStateBytesMax);
  HOB_TRY(const SnapshotVersion version, read_version(file));
  if (version.major != kSnapshotVersion.major || version.minor > kSnapshotVersion.minor)
    return fail(Code::kCorrupt, "the snapshot has version {}, this program reads {}",
                version.text(), kSnapshotVersion.text());
  return context(decode<SnapshotState>(
                     file.substr(sizeof(Header), file.size() - sizeof(Header) - sizeof(uint64_t))),
                 "the snapshot's state");
}

}  // namespace hob::microvm
