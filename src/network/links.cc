#include "network/links.h"

#include <arpa/inet.h>
#include <linux/if.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>

#include <chrono>
#include <thread>

#include "network/namespaces.h"

namespace hob::network {

namespace {

std::span<const std::byte> bytes_of(const auto& value) {
  return std::as_bytes(std::span(&value, 1));
}

Link link_of(const NetlinkReply& reply) {
  const auto header = reply.header<ifinfomsg>();
  const auto state = reply.attribute(sizeof(header), IFLA_OPERSTATE);
  return {.index = header.ifi_index,
          .name = reply.text(sizeof(header), IFLA_IFNAME),
          .alias = reply.text(sizeof(header), IFLA_IFALIAS),
          .up = (header.ifi_flags & IFF_UP) != 0,
          .running = !state.empty() && state.front() == std::byte{IF_OPER_UP}};
}

constexpr auto kRunningStep = std::chrono::microseconds(250);
constexpr int kRunningAttemptsMax = 4'000;

ifinfomsg interface(int index) {
  ifinfomsg header{};
  header.ifi_index = index;
  return header;
}

uint32_t number_of(std::span<const std::byte> bytes) {
  uint32_t value = 0;
  std::memcpy(&value, bytes.data(), std::min(bytes.size(), sizeof(value)));
  return value;
}

}  // namespace

std::optional<uint32_t> parse_ipv4(std::string_view text) {
  in_addr address{};
  if (::inet_pton(AF_INET, std::string(text).c_str(), &address) != 1) return std::nullopt;
  return ntohl(address.s_addr);
}

std::string format_ipv4(uint32_t address) {
  return fmt::format("{}.{}.{}.{}", address >> 24, (address >> 16) & 0xff, (address >> 8) & 0xff,
                     address & 0xff);
}

Result<Links> Links::here() {
  HOB_TRY(Netlink netlink, Netlink::open());
  return Links(std::move(netlink));
}

Result<Links> Links::of(const std::filesystem::path& handle) {
  std::optional<Netlink> made;
  HOB_CHECK(in_namespace(handle, [&]() -> Result<void> {
    HOB_TRY(made, Netlink::open());
    return {};
  }));
  return Links(std::move(*made));
}

Result<std::vector<Link>> Links::all() {
  std::vector<Link> found;
  HOB_CHECK(netlink_.query(NetlinkRequest(RTM_GETLINK, NLM_F_DUMP, interface(0)),
                           "listing interfaces",
                           [&](const NetlinkReply& reply) { found.push_back(link_of(reply)); }));
  return found;
}

Result<std::optional<Link>> Links::find(std::string_view name) {
  NetlinkRequest request(RTM_GETLINK, 0, interface(0));
  request.text(IFLA_IFNAME, name);
  std::optional<Link> found;
  const auto asked = netlink_.query(request, fmt::format("looking for interface {}", name),
                                    [&](const NetlinkReply& reply) { found = link_of(reply); });
  if (!asked && asked.error().code != Code::kNotFound) return fail(asked.error());
  return found;
}

Result<void> Links::add_veth(std::string_view name, std::string_view peer, int peer_namespace) {
  NetlinkRequest request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, interface(0));
  const ifinfomsg peer_header = interface(0);
  request.text(IFLA_IFNAME, name).nest(IFLA_LINKINFO, [&](NetlinkRequest& info) {
    info.text(IFLA_INFO_KIND, "veth").nest(IFLA_INFO_DATA, [&](NetlinkRequest& data) {
      data.nest(
          VETH_INFO_PEER,
          [&](NetlinkRequest& other) {
            other.text(IFLA_IFNAME, peer)
                .number(IFLA_NET_NS_FD, static_cast<uint32_t>(peer_namespace));
          },
          bytes_of(peer_header));
    });
  });
  return netlink_.call(request, fmt::format("making interface {}", name));
}

Result<void> Links::add_bridge(std::string_view name) {
  NetlinkRequest request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, interface(0));
  request.text(IFLA_IFNAME, name).nest(IFLA_LINKINFO, [&](NetlinkRequest& info) {
    info.text(IFLA_INFO_KIND, "bridge");
  });
  return netlink_.call(request, fmt::format("making the bridge {}", name));
}

Result<void> Links::set_master(int index, int bridge) {
  NetlinkRequest request(RTM_NEWLINK, 0, interface(index));
  request.number(IFLA_MASTER, static_cast<uint32_t>(bridge));
  return netlink_.call(request, "putting an interface on a bridge");
}

Result<void> Links::remove(std::string_view name) {
  NetlinkRequest request(RTM_DELLINK, 0, interface(0));
  request.text(IFLA_IFNAME, name);
  auto removed = netlink_.call(request, fmt::format("removing interface {}", name));
  if (!removed && removed.error().code == Code::kNotFound) return {};
  return removed;
}

Result<void> Links::set_up(int index) {
  ifinfomsg header = interface(index);
  header.ifi_flags = IFF_UP;
  header.ifi_change = IFF_UP;
  return netlink_.call(NetlinkRequest(RTM_NEWLINK, 0, header), "taking an interface up");
}

Result<void> Links::wait_running(std::string_view name) {
  for (int attempt = 0; attempt < kRunningAttemptsMax; ++attempt) {
    HOB_TRY(const std::optional<Link> link, find(name));
    if (link && link->running) return {};
    std::this_thread::sleep_for(kRunningStep);
  }
  return fail(Code::kTimeout, "interface {} did not begin to run", name);
}

Result<void> Links::set_alias(int index, std::string_view alias) {
  NetlinkRequest request(RTM_NEWLINK, 0, interface(index));
  request.text(IFLA_IFALIAS, alias);
  return netlink_.call(request, "naming an interface");
}

Result<void> Links::add_address(int index, uint32_t address, int prefix_length) {
  ifaddrmsg header{};
  header.ifa_family = AF_INET;
  header.ifa_prefixlen = static_cast<uint8_t>(prefix_length);
  header.ifa_scope = RT_SCOPE_UNIVERSE;
  header.ifa_index = static_cast<uint32_t>(index);
  const uint32_t network_order = htonl(address);
  NetlinkRequest request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, header);
  request.number(IFA_LOCAL, network_order)
      .number(IFA_ADDRESS, network_order)
      .number(IFA_FLAGS, static_cast<uint32_t>(IFA_F_NOPREFIXROUTE));
  return netlink_.call(request, fmt::format("adding address {}", format_ipv4(address)));
}

Result<std::set<uint32_t>> Links::addresses() {
  std::set<uint32_t> found;
  ifaddrmsg header{};
  header.ifa_family = AF_INET;
  HOB_CHECK(netlink_.query(NetlinkRequest(RTM_GETADDR, NLM_F_DUMP, header), "listing addresses",
                           [&](const NetlinkReply& reply) {
                             found.insert(
                                 ntohl(number_of(reply.attribute(sizeof(ifaddrmsg), IFA_LOCAL))));
                           }));
  return found;
}

Result<void> Links::set_route(const Route& route) {
  rtmsg header{};
  header.rtm_family = AF_INET;
  header.rtm_dst_len = static_cast<uint8_t>(route.prefix_length);
  header.rtm_table = RT_TABLE_MAIN;
  header.rtm_protocol = RTPROT_STATIC;
  header.rtm_scope = route.gateway ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK;
  header.rtm_type = RTN_UNICAST;
  if (route.gateway) header.rtm_flags = RTNH_F_ONLINK;
  NetlinkRequest request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, header);
  request.number(RTA_OIF, static_cast<uint32_t>(route.index));
  if (route.prefix_length > 0) request.number(RTA_DST, htonl(route.destination));
  if (route.gateway) request.number(RTA_GATEWAY, htonl(*route.gateway));
  if (route.source) request.number(RTA_PREFSRC, htonl(*route.source));
  return netlink_.call(request, fmt::format("adding the route to {}/{}",
                                            format_ipv4(route.destination), route.prefix_length));
}

Result<std::set<int>> Links::default_route_interfaces() {
  std::set<int> found;
  rtmsg header{};
  header.rtm_family = AF_INET;
  HOB_CHECK(netlink_.query(NetlinkRequest(RTM_GETROUTE, NLM_F_DUMP, header), "listing routes",
                           [&](const NetlinkReply& reply) {
                             const auto route = reply.header<rtmsg>();
                             if (route.rtm_dst_len != 0 || route.rtm_type != RTN_UNICAST ||
                                 route.rtm_table != RT_TABLE_MAIN)
                               return;
                             const auto out = reply.attribute(sizeof(route), RTA_OIF);
                             if (out.size() == sizeof(uint32_t))
                               found.insert(static_cast<int>(number_of(out)));
                           }));
  return found;
}

}  // namespace hob::network
