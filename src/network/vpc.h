// The VPC of one Hob instance on this host: a network namespace that is the router of
// 198.18.0.0/16. Every task has a namespace of its own, linked to the router by a veth pair; the
// edge makes its connections from the router.
//
// Because the addresses live inside that namespace, two instances do not meet and the machine's own
// routes are left alone. A veth pair with masquerading leads out to the machine's network;
// dns_forwarder.h answers at 198.18.0.2. Routed, not bridged: as in AWS's VPC there is no shared
// Ethernet. A task can neither take another's address (each link has one address, and strict
// reverse-path filtering) nor be heard by another; tasks reach the outside, DNS, and answer the
// router, nothing else: not each other, not the machine, not 169.254.0.0/16 of the machine's own
// cloud.
//
// Everything is named after the instance ("hob-<6 hex>") and is removed by tear_down(), the
// machine's forwarding switches put back. Handles are bound in the caller's mount namespace, which
// must be the machine's. Root only; calls block (run them on the pool) but are short: attach() and
// detach() take a few ms and may run at the same time for different tasks; set_up() and tear_down()
// run nft and must be alone.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/result.h"

namespace hob::network {

struct VpcOptions {
  std::string instance{};  // 6 hex digits, unique on this machine
  std::filesystem::path
      run_directory{};  // where the namespaces' handles are bound; made if missing
  std::string cidr = "198.18.0.0/16";
  // What instances of this machine agree on: one set_up at a time, and who turned forwarding on.
  std::filesystem::path shared_directory = "/run/hob-shared";
};

// A task's address in it.
struct TaskAddress {
  std::string task{};     // 32 hex
  std::string address{};  // "198.18.0.17"
  int prefix_length = 20;
  std::string gateway{};  // "198.18.0.1": any subnet's router
};

class Vpc {
 public:
  explicit Vpc(VpcOptions options);
  // Makes what is missing, keeps what is there (tasks run on through an agent's restart).
  Result<void> set_up();
  // Removes every namespace, interface and nftables table of this instance. Harmless to repeat.
  Result<void> tear_down();
  // A network namespace with lo and eth0 at that address; answers the path of its handle.
  // Idempotent: the same address again keeps what is there, another address makes it anew. IPv6 is
  // off in it. Unprivileged ports start at 0 in it, so that images bind port 80 without
  // CAP_NET_BIND_SERVICE over the host. kInvalid: not a task id or an address of this VPC.
  Result<std::filesystem::path> attach(const TaskAddress& address);
  // Idempotent.
  Result<void> detach(const std::string& task);
  // The task ids attached now.
  Result<std::vector<std::string>> attached() const;
  // The handle of the VPC's own namespace.
  std::filesystem::path handle() const;

 private:
  std::filesystem::path task_handle(const std::string& task) const;
  VpcOptions options_;
};

// Runs `function` (which makes sockets) with the calling thread inside the namespace at `handle`,
// then comes back. Sockets stay in the namespace they were made in. Aborts if the thread cannot
// come back.
Result<Fd> socket_in(const std::filesystem::path& handle,
                     const std::function<Result<Fd>()>& function);

}  // namespace hob::network
