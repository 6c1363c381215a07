#include "microvm/virtio/tap.h"

#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <cstring>

namespace hob::microvm {

Result<Tap> Tap::open(const std::string& name) {
  if (name.empty() || name.size() >= IFNAMSIZ || name.contains('\0'))
    return fail(Code::kInvalid, "Invalid interface name");
  Tap tap(Fd(::open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK)));
  if (!tap.fd_) return fail_errno(errno, "Couldn't open /dev/net/tun");
  ifreq request{};
  std::memcpy(request.ifr_name, name.data(), name.size());
  request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
  if (ioctl(tap.fd(), TUNSETIFF, &request) < 0) {
    auto error = fail_errno(errno, "Couldn't create the tap interface " + name);
    if (errno == EBUSY) error.error().code = Code::kConflict;
    return error;
  }
  int header_bytes = kNetHeaderBytes;
  if (ioctl(tap.fd(), TUNSETVNETHDRSZ, &header_bytes) < 0)
    return fail_errno(errno, "Couldn't set the size of the tap's header");
  return tap;
}

void Tap::set_offloads(uint64_t features) const {
  unsigned offloads = 0;
  if ((features & net_feature::kReceiveChecksum) != 0) {
    offloads |= TUN_F_CSUM;
    if ((features & net_feature::kReceiveTso4) != 0) offloads |= TUN_F_TSO4;
    if ((features & net_feature::kReceiveTso6) != 0) offloads |= TUN_F_TSO6;
  }
  (void)ioctl(fd_.get(), TUNSETOFFLOAD, offloads);
}

Result<Tap> Tap::duplicate() const {
  Fd copy(fcntl(fd_.get(), F_DUPFD_CLOEXEC, 0));
  if (!copy) return fail_errno(errno, "duplicating a tap's descriptor");
  return Tap(std::move(copy));
}

}  // namespace hob::microvm
