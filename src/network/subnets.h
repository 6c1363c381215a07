// The default VPC's address plan: 198.18.0.0/16, a /20 for each of the zones a, b and c. Pure; any
// thread.
//
// As in AWS's subnets the first four addresses and the last are not handed out (network, router,
// DNS, reserved, broadcast): VPC User Guide, "Subnet CIDR reservations". DNS answers at the VPC's
// base plus two for all subnets.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hob::network {

inline constexpr std::string_view kVpcCidr = "198.18.0.0/16";
inline constexpr std::string_view kVpcRouter = "198.18.0.1";
inline constexpr std::string_view kVpcDns = "198.18.0.2";
inline constexpr std::string_view kZoneLetters = "abc";
inline constexpr int kSubnetPrefixLength = 20;

struct Subnet {
  char zone = 'a';
  std::string network{};  // "198.18.16.0"
  std::string gateway{};  // "198.18.16.1"
  int prefix_length = kSubnetPrefixLength;
};

// The subnet of a zone by its last letter: "a" or "us-east-1a". kNotFound: no such zone.
Result<Subnet> subnet_of(std::string_view zone);

// An address of that zone's subnet that is not in `taken`: the first after `last`, going round, so
// that an address is not used again soon (an edge may hold an old route to it for a moment). `last`
// empty or foreign: the first of all. nullopt: the subnet is full, or there is no such zone.
std::optional<std::string> allocate(std::string_view zone, const std::set<std::string>& taken,
                                    std::string_view last = {});

}  // namespace hob::network
