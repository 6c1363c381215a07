// The VPC of one Hob instance on this host: a network namespace with a bridge, where every task's namespace is
// plugged in and the edge makes its connections from.
//
// Because 198.18.0.0/16 lives inside that namespace, two instances do not meet and the machine's own routes are left
// alone. A veth pair with masquerading leads out to the machine's network; a forwarder answers DNS at 198.18.0.2.
// Everything is named after the instance ("hob-<6 hex>") and is removed by tear_down(). Root only; calls block (run
// them on the pool) but are short.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "base/file.h"
#include "base/result.h"

namespace hob::network {

struct VpcOptions {
  std::string instance{};                  // 6 hex digits, unique on this machine
  std::filesystem::path run_directory{};   // where the namespaces' handles are bound
  std::string cidr = "198.18.0.0/16";
};

// A task's address in it.
struct TaskAddress {
  std::string task{};     // 32 hex
  std::string address{};  // "198.18.0.17"
  int prefix_length = 20;
  std::string gateway{};  // "198.18.0.1"
};

class Vpc {
 public:
  explicit Vpc(VpcOptions options);
  // Makes what is missing, keeps what is there (tasks run on through an agent's restart).
  Result<void> set_up();
  // Removes every namespace, interface and nftables table of this instance. Harmless to repeat.
  Result<void> tear_down();
  // A network namespace with lo and eth0 at that address; answers the path of its handle. Idempotent.
  // Unprivileged ports start at 0 in it, so that images bind port 80 without CAP_NET_BIND_SERVICE over the host.
  Result<std::filesystem::path> attach(const TaskAddress& address);
  Result<void> detach(const std::string& task);
  // The task ids attached now.
  Result<std::vector<std::string>> attached() const;
  // The handle of the VPC's own namespace.
  std::filesystem::path handle() const;

 private:
  VpcOptions options_;
};

// Runs `function` (which makes sockets) with the calling thread inside the namespace at `handle`, then comes back.
// Sockets stay in the namespace they were made in. Aborts if the thread cannot come back.
Result<Fd> socket_in(const std::filesystem::path& handle, const std::function<Result<Fd>()>& function);

}  // namespace hob::network
