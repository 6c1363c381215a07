#include "network/egress.h"

#include <fcntl.h>

#include <algorithm>
#include <charconv>

#include "base/file.h"
#include "base/process.h"
#include "network/forwarding.h"
#include "network/links.h"
#include "network/namespaces.h"

namespace hob::network {

namespace {

constexpr Duration kNftTimeout = std::chrono::seconds(20);
constexpr uint32_t kOutsideBase = (198u << 24) | (19u << 16);
constexpr uint32_t kOutsideCount = 1u << 14;  // /30s in 198.19.0.0/16

// One /30: base + 1 is the machine's end, base + 2 the VPC's.
struct Outside {
  uint32_t base = 0;
  std::string network() const { return format_ipv4(base) + "/30"; }
  uint32_t machine() const { return base + 1; }
  uint32_t vpc() const { return base + 2; }
};

std::string table_of(const Egress& egress) { return "hob_" + egress.instance; }
std::string interface_of(const Egress& egress) { return "hob-" + egress.instance; }

Result<void> nft(const std::string& script) {
  HOB_TRY(const Exit exit,
          run_blocking({.argv = {"nft", "-f", "-"}, .input = script}, kNftTimeout));
  if (exit.status != 0)
    return fail(Code::kUnavailable, "nft ended with status {}: {}", exit.status, exit.errors);
  return {};
}

// The one chosen before, else the first that is free here, beginning where the instance's id says.
Result<Outside> choose(const Egress& egress, Links& machine) {
  const std::filesystem::path file = egress.run_directory / "outside";
  if (const auto chosen = read_file(file, 64)) {
    if (const auto base = parse_ipv4(*chosen)) return Outside{*base};
  }
  uint32_t seed = 0;
  const std::string& id = egress.instance;
  std::from_chars(id.data(), id.data() + id.size(), seed, 16);
  HOB_TRY(const std::set<uint32_t> taken, machine.addresses());
  for (uint32_t step = 0; step < kOutsideCount; ++step) {
    const Outside candidate{kOutsideBase + ((seed + step) % kOutsideCount) * 4};
    if (taken.lower_bound(candidate.base) != taken.upper_bound(candidate.base + 3)) continue;
    HOB_CHECK(write_file_durably(file, format_ipv4(candidate.base), 0600));
    return candidate;
  }
  return fail(Code::kLimit, "every /30 of 198.19.0.0/16 is in use on this machine");
}

Result<void> connect(const Egress& egress, const Outside& outside, Links& machine) {
  HOB_TRY(Links vpc, Links::of(egress.vpc));
  HOB_TRY(std::optional<Link> ours, machine.find(interface_of(egress)));
  HOB_TRY(std::optional<Link> theirs, vpc.find("out0"));
  if (!ours || !theirs) {
    HOB_CHECK(machine.remove(interface_of(egress)));
    const Fd there(::open(egress.vpc.c_str(), O_RDONLY | O_CLOEXEC));
    if (!there) return fail_errno(errno, "opening the VPC's namespace");
    HOB_CHECK(machine.add_veth(interface_of(egress), "out0", there.get()));
    HOB_TRY(ours, machine.find(interface_of(egress)));
    HOB_TRY(theirs, vpc.find("out0"));
    if (!ours || !theirs)
      return fail(Code::kUnavailable, "the interface {} vanished", interface_of(egress));
  }
  HOB_CHECK(set_sysctl("ipv6/conf/" + interface_of(egress) + "/disable_ipv6", "1"));
  HOB_CHECK(set_sysctl("ipv4/conf/" + interface_of(egress) + "/forwarding", "1"));
  HOB_CHECK(machine.add_address(ours->index, outside.machine(), 32));
  HOB_CHECK(machine.set_up(ours->index));
  HOB_CHECK(machine.set_route({.destination = outside.vpc(),
                               .prefix_length = 32,
                               .source = outside.machine(),
                               .index = ours->index}));
  HOB_CHECK(vpc.add_address(theirs->index, outside.vpc(), 32));
  HOB_CHECK(vpc.set_up(theirs->index));
  return vpc.set_route(
      {.gateway = outside.machine(), .source = outside.vpc(), .index = theirs->index});
}

// What the machine lets through: connections that tasks begin, to elsewhere than itself and other
// instances.
std::string machine_rules(const Egress& egress, const Outside& outside,
                          const std::set<std::string>& lacking) {
  const std::string table = table_of(egress);
  const std::string interface = interface_of(egress);
  std::string guard;
  for (const std::string& uplink : lacking) {
    guard += fmt::format("    iifname \"{}\" oifname != \"hob-*\" drop\n", uplink);
  }
  return fmt::format(R"(table inet {0}
delete table inet {0}
table inet {0} {{
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {2} oifname != "{1}" masquerade
  }}
  chain input {{
    type filter hook input priority filter; policy accept;
    iifname "{1}" ct state established,related accept
    iifname "{1}" drop
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    iifname "{1}" oifname "hob-*" drop
    oifname "{1}" ct state established,related accept
    oifname "{1}" drop
{3}  }}
}}
)",
                     table, interface, outside.network(), guard);
}

// What the VPC's router lets through. The path between edge and tasks is kept out of connection
// tracking, which would cost every request; the rules for it need no state.
constexpr std::string_view kRouterRules = R"(table inet hob
delete table inet hob
table inet hob {
  chain prerouting {
    type filter hook prerouting priority raw; policy accept;
    iifname "t*" fib daddr type local notrack
  }
  chain output {
    type filter hook output priority raw; policy accept;
    oifname "t*" notrack
  }
  chain input {
    type filter hook input priority filter; policy accept;
    iifname "t*" ip daddr 198.18.0.2 udp dport 53 accept
    iifname "t*" ip daddr 198.18.0.2 tcp dport 53 accept
    iifname "t*" tcp flags & (syn | ack) == syn reject with tcp reset
    iifname "t*" meta l4proto != { tcp, icmp } reject with icmpx admin-prohibited
    iifname "out0" ct state established,related accept
    iifname "out0" drop
  }
  chain refuse {
    # A connect() takes an ICMP error that comes before it returned for a passing one, and tries for another second.
    meta l4proto tcp reject with tcp reset
    reject with icmpx admin-prohibited
  }
  chain forward {
    type filter hook forward priority filter; policy drop;
    ip daddr { 169.254.0.0/16, 198.19.0.0/16 } goto refuse
    iifname "t*" oifname "out0" accept
    iifname "out0" oifname "t*" ct state established,related accept
    iifname "t*" goto refuse
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    oifname "out0" masquerade
  }
}
)";

}  // namespace

Result<void> open_egress(const Egress& egress) {
  HOB_TRY(Links machine, Links::here());
  HOB_TRY(const Outside outside, choose(egress, machine));
  HOB_CHECK(connect(egress, outside, machine));
  HOB_CHECK(in_namespace(egress.vpc, [] { return nft(std::string(kRouterRules)); }));

  HOB_TRY(const std::set<int> uplinks, machine.default_route_interfaces());
  HOB_TRY(const std::vector<Link> links, machine.all());
  std::set<std::string> names;
  for (const Link& link : links) {
    if (uplinks.contains(link.index)) names.insert(link.name);
  }
  HOB_TRY(const std::set<std::string> lacking, lacking_forwarding(egress.shared_directory, names));
  // Rules first: from the moment an uplink forwards, it does so for us alone.
  HOB_CHECK(nft(machine_rules(egress, outside, lacking)));
  return claim_forwarding(egress.shared_directory, egress.instance, lacking);
}

Result<void> close_egress(const Egress& egress) {
  HOB_CHECK(release_forwarding(egress.shared_directory, egress.instance));
  HOB_TRY(Links machine, Links::here());
  HOB_CHECK(machine.remove(interface_of(egress)));
  HOB_CHECK(nft(fmt::format("table inet {0}\ndelete table inet {0}\n", table_of(egress))));
  return remove_tree(egress.run_directory / "outside");
}

}  // namespace hob::network
