// The file of a snapshot that holds all but the guest's memory.
//
//   magic (8 bytes) | major, minor, patch (2 bytes each) | 0 (2) | length (8) | state | CRC-64 of
//   all before
//
// Little-endian. Whoever changes what is kept so that an older program could not use it raises
// `major`; who adds members raises `minor`. A file of another major version, or of a newer minor
// one, is refused, and so is one whose checksum is wrong. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "microvm/api/configuration.h"
#include "microvm/machine/state.h"

namespace hob::microvm {

inline constexpr size_t kStateBytesMax = 10 << 20;  // as Firecracker's

struct SnapshotVersion {
  uint16_t major = 1;
  uint16_t minor = 2;
  uint16_t patch = 0;
  std::string text() const;  // "v1.0.0"
};
inline constexpr SnapshotVersion kSnapshotVersion{};

// What was asked for by the API, and what became of it. Further devices' requests go to the end.
struct SnapshotState {
  MachineConfiguration configuration{};
  std::optional<BootSource> boot_source{};
  std::vector<Drive> drives{};
  MachineState machine{};
  std::vector<NetworkInterface> interfaces{};
  std::optional<VsockConfiguration> vsock{};
  std::optional<BalloonOptions> balloon{};
  std::optional<RateLimiterOptions> entropy{};
  std::optional<MmdsConfiguration> mmds{};
  std::vector<PmemConfiguration> pmems{};
};
BOOST_DESCRIBE_STRUCT(SnapshotState, (),
                      (configuration, boot_source, drives, machine, interfaces, vsock, balloon,
                       entropy, mmds, pmems))

std::string write_state(const SnapshotState& state);
// kCorrupt: no snapshot of ours, damaged, or of a version that this program does not read; its
// message says which.
Result<SnapshotState> read_state(std::string_view file);
// Of a file that may be too new to be read otherwise. kCorrupt: no snapshot of ours, or damaged.
Result<SnapshotVersion> read_version(std::string_view file);

// ECMA-182, as of XZ.
uint64_t crc64(std::string_view bytes);

}  // namespace hob::microvm
