// The way out of a VPC: a veth pair between its namespace ("out0") and the machine's
// ("hob-<instance>") on a /30 of 198.19.0.0/16, masqueraded on both sides. Private to this room;
// called in the machine's namespace, root only.
//
// Nothing of the machine changes but: that interface, the nftables table hob_<instance>, and the
// forwarding switch of the interfaces that default routes lead out by. Linux looks at the switch of
// the interface a packet came in by, so replies from outside need it there; the global ip_forward
// is left alone. Where we turned it on, our table drops whatever else would be forwarded from there
// now, and close_egress() puts it back when the last instance leaves.
#pragma once

#include <filesystem>
#include <string>

#include "base/result.h"

namespace hob::network {

struct Egress {
  std::string instance{};
  std::filesystem::path vpc{};               // the namespace's handle
  std::filesystem::path run_directory{};     // remembers which /30 it is
  std::filesystem::path shared_directory{};  // remembers what the switches were
};

// Idempotent. A machine without a default route gets the interface, and nothing to reach through
// it.
Result<void> open_egress(const Egress& egress);
// Idempotent, also where open_egress() failed or was killed half-way.
Result<void> close_egress(const Egress& egress);

}  // namespace hob::network
