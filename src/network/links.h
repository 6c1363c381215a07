// Interfaces, addresses and routes of one network namespace. Private to this room; root only.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "network/netlink.h"

namespace hob::network {

struct Link {
  int index = 0;
  std::string name{};
  std::string alias{};
  bool up = false;
  bool running = false;  // up, and the kernel has noticed that its peer is, too: packets pass
};

// An IPv4 address as a number, host byte order: what address arithmetic and comparisons use.
std::optional<uint32_t> parse_ipv4(std::string_view text);
std::string format_ipv4(uint32_t address);

class Links {
 public:
  // Of the calling thread's namespace; of the one at `handle`.
  static Result<Links> here();
  static Result<Links> of(const std::filesystem::path& handle);

  Result<std::vector<Link>> all();
  // nullopt: there is none of that name.
  Result<std::optional<Link>> find(std::string_view name);
  // `name` here, `peer` in the namespace open as `peer_namespace`; both down.
  Result<void> add_veth(std::string_view name, std::string_view peer, int peer_namespace);
  // Without the spanning tree protocol; down.
  Result<void> add_bridge(std::string_view name);
  // Makes an interface a port of a bridge.
  Result<void> set_master(int index, int bridge);
  // Idempotent.
  Result<void> remove(std::string_view name);
  Result<void> set_up(int index);
  // Waits until packets pass: the kernel activates a veth's end some time after its peer came up,
  // and drops what is sent before, which costs a connection its first second. kTimeout: after a
  // second.
  Result<void> wait_running(std::string_view name);
  // For people (`ip link` shows it), and to mark what is complete.
  Result<void> set_alias(int index, std::string_view alias);

  // Idempotent. No route is made for the prefix.
  Result<void> add_address(int index, uint32_t address, int prefix_length);
  // All IPv4 addresses.
  Result<std::set<uint32_t>> addresses();

  struct Route {
    uint32_t destination = 0;
    int prefix_length = 0;  // 0: the default route
    std::optional<uint32_t>
        gateway{};  // reached directly, even where no prefix says so; nullopt: on the link
    std::optional<uint32_t> source{};  // the address we use towards it
    int index = 0;                     // of the interface it leads out by
  };
  // Replaces a route to the same destination.
  Result<void> set_route(const Route& route);
  // The interfaces that default routes lead out by.
  Result<std::set<int>> default_route_interfaces();

 private:
  explicit Links(Netlink netlink) : netlink_(std::move(netlink)) {}
  Netlink netlink_;
};

}  // namespace hob::network
