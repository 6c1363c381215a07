#include "network/machine_link.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>

#include "base/file.h"
#include "network/links.h"
#include "network/namespaces.h"

namespace hob::network {
namespace {

constexpr std::string_view kBridge = "br0";

// One that stays when we close it, or the one that is there. In the calling thread's namespace.
Result<void> make_tap(uid_t owner) {
  const Fd tun(::open("/dev/net/tun", O_RDWR | O_CLOEXEC));
  if (!tun) return fail_errno(errno, "opening /dev/net/tun (is the tun module loaded?)");
  ifreq request{};
  kMachineTap.copy(request.ifr_name, IFNAMSIZ - 1);
  request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
  if (::ioctl(tun.get(), TUNSETIFF, &request) != 0 || ::ioctl(tun.get(), TUNSETPERSIST, 1) != 0 ||
      ::ioctl(tun.get(), TUNSETOWNER, owner) != 0)
    return fail_errno(errno, "making a tap");
  return {};
}

}  // namespace

Result<void> link_machine(const std::filesystem::path& handle, uid_t owner) {
  HOB_TRY(Links links, Links::of(handle));
  HOB_CHECK(in_namespace(handle, [&]() -> Result<void> {
    // The address is on eth0 still; the machine alone shall say where it is (8: answer for none).
    HOB_CHECK(set_sysctl("ipv4/conf/all/arp_ignore", "8"));
    return make_tap(owner);
  }));
  HOB_TRY(std::optional<Link> bridge, links.find(kBridge));
  if (!bridge) {
    HOB_CHECK(links.add_bridge(kBridge));
    HOB_TRY(bridge, links.find(kBridge));
  }
  HOB_TRY(const std::optional<Link> inner, links.find("eth0"));
  HOB_TRY(const std::optional<Link> tap, links.find(kMachineTap));
  if (!bridge || !inner || !tap)
    return fail(Code::kUnavailable, "the interfaces of {} vanished", handle.string());
  HOB_CHECK(links.set_master(inner->index, bridge->index));
  HOB_CHECK(links.set_master(tap->index, bridge->index));
  HOB_CHECK(links.set_up(bridge->index));
  return links.set_up(tap->index);
}

std::string machine_hardware_address(std::string_view address) {
  const uint32_t number = parse_ipv4(address).value_or(0);
  return fmt::format("06:00:{:02x}:{:02x}:{:02x}:{:02x}", number >> 24, number >> 16 & 0xff,
                     number >> 8 & 0xff, number & 0xff);
}

}  // namespace hob::network
