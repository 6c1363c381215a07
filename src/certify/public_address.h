// Whether an address is one that everybody may be sent to: not this machine's, not its networks'.
#pragma once

struct sockaddr;

namespace hob::certify {

// False for what IANA's special-purpose registries (RFC 6890) do not call globally reachable, for
// multicast, for IPv6 that has an IPv4 address inside, and for other families.
bool is_public(const sockaddr& address);

}  // namespace hob::certify
