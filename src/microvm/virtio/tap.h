// The host's side of a guest's interface: a tap device, whose frames have a virtio header in front.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <span>
#include <string>

#include "base/file.h"
#include "base/result.h"

namespace hob::microvm {

inline constexpr uint32_t kNetHeaderBytes = 12;  // virtio_net_hdr_v1, little-endian
inline constexpr uint32_t kEthernetHeaderBytes = 14;
// Header, Ethernet's, and the largest IP packet that segmentation makes.
inline constexpr uint32_t kNetFrameBytesMax = kNetHeaderBytes + kEthernetHeaderBytes + 65535;

// Features by their bits (5.1.3); Linux's header of them is no C++.
namespace net_feature {
inline constexpr uint64_t kChecksum = 1 << 0;         // the guest may leave a checksum to us
inline constexpr uint64_t kReceiveChecksum = 1 << 1;  // we may leave it to the guest
inline constexpr uint64_t kMtu = 1 << 3;
inline constexpr uint64_t kMac = 1 << 5;
inline constexpr uint64_t kReceiveTso4 = 1 << 7;  // likewise with segmentation
inline constexpr uint64_t kReceiveTso6 = 1 << 8;
inline constexpr uint64_t kTso4 = 1 << 11;
inline constexpr uint64_t kTso6 = 1 << 12;
inline constexpr uint64_t kMergeable = 1 << 15;  // a frame may lie in several buffers
}  // namespace net_feature

class Tap {
 public:
  // Made if there is none of that name (1 to 15 bytes). kConflict: another process has it.
  static Result<Tap> open(const std::string& name);
  // Any descriptor that keeps frames apart.
  explicit Tap(Fd fd) : fd_(std::move(fd)) {}

  int fd() const { return fd_.get(); }
  // What of a checksum or a segmentation may be left to the receiver (`features` of virtio's). A
  // host that cannot leaves nothing to it, which is as good.
  void set_offloads(uint64_t features) const;
  Result<Tap> duplicate() const;

 private:
  Fd fd_;
};

}  // namespace hob::microvm
