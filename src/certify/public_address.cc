#include "certify/public_address.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <iterator>

namespace hob::certify {
namespace {

struct Range {
  uint32_t first = 0;
  int bits = 0;
};
// 192.0.0.0/24 whole: the few addresses in it that are reachable are no servers.
constexpr Range kNotPublic[] = {
    {0x00000000, 8},   // this network
    {0x0a000000, 8},   // private
    {0x64400000, 10},  // carriers' NAT
    {0x7f000000, 8},   // loopback
    {0xa9fe0000, 16},  // link-local, clouds' metadata
    {0xac100000, 12},  // private
    {0xc0000000, 24},  // protocols' own
    {0xc0000200, 24},  // documentation
    {0xc0586300, 24},  // 6to4 relays
    {0xc0a80000, 16},  // private
    {0xc6120000, 15},  // benchmarks, Hob's VPC
    {0xc6336400, 24},  // documentation
    {0xcb007100, 24},  // documentation
    {0xe0000000, 3},   // multicast, reserved
};

bool is_public(uint32_t address) {
  return std::none_of(std::begin(kNotPublic), std::end(kNotPublic), [&](const Range& range) {
    return (address ^ range.first) >> (32 - range.bits) == 0;
  });
}

// 2000::/3 is all that is given out; in it are Teredo and other protocols (2001::/23),
// documentation (2001:db8::/32) and 6to4 (2002::/16).
bool is_public(const in6_addr& address) {
  const uint8_t* byte = address.s6_addr;
  const int first = byte[0] << 8 | byte[1], second = byte[2] << 8 | byte[3];
  if ((first & 0xe000) != 0x2000 || first == 0x2002) return false;
  return first != 0x2001 || ((second & 0xfe00) != 0 && second != 0x0db8);
}

}  // namespace

bool is_public(const sockaddr& address) {
  if (address.sa_family == AF_INET) {
    sockaddr_in ipv4;
    std::memcpy(&ipv4, &address, sizeof ipv4);
    return is_public(ntohl(ipv4.sin_addr.s_addr));
  }
  if (address.sa_family != AF_INET6) return false;
  sockaddr_in6 ipv6;
  std::memcpy(&ipv6, &address, sizeof ipv6);
  return is_public(ipv6.sin6_addr);
}

}  // namespace hob::certify
