// What one packet of a socket device says (virtio 1.2, section 5.10.6).
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

namespace hob::microvm {

struct VsockHeader {
  uint64_t from_cid = 0;
  uint64_t to_cid = 0;
  uint32_t from_port = 0;
  uint32_t to_port = 0;
  uint32_t bytes = 0;  // of data behind it
  uint16_t type = 0;
  uint16_t operation = 0;
  uint32_t flags = 0;
  uint32_t buffer_bytes = 0;     // the sender's buffer, whole
  uint32_t forwarded_bytes = 0;  // what left that buffer since the connection began, modulo 2^32
} __attribute__((packed));
static_assert(sizeof(VsockHeader) == 44);

enum VsockOperation : uint16_t {
  kVsockRequest = 1,
  kVsockResponse = 2,
  kVsockReset = 3,
  kVsockShutdown = 4,
  kVsockData = 5,
  kVsockCreditUpdate = 6,
  kVsockCreditRequest = 7,
};
inline constexpr uint16_t kVsockStream = 1;
// Flags of a shutdown: the sender will not receive, will not send.
inline constexpr uint32_t kVsockNoReceive = 1;
inline constexpr uint32_t kVsockNoSend = 2;

inline constexpr uint64_t kVsockHostCid = 2;
// Firecracker's: of one packet, and of what waits in one direction of a connection.
inline constexpr uint32_t kVsockBufferBytes = 64 << 10;
inline constexpr size_t kVsockConnectionsMax = 1'023;
inline constexpr uint32_t kVsockFirstHostPort = uint32_t{1} << 30;

// Which of the two sides' ports a connection has.
struct VsockPorts {
  uint32_t host = 0;
  uint32_t guest = 0;
  auto operator<=>(const VsockPorts&) const = default;
};

}  // namespace hob::microvm
