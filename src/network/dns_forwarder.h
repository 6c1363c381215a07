// DNS for tasks: listens in the VPC at 198.18.0.2:53 (UDP and TCP) and asks the machine's own
// resolvers, those of /etc/resolv.conf as it is at that moment, from the machine's namespace. Knows
// no names itself.
//
// Belongs to the host agent's loop. Bounded: beyond kDnsQueriesMax questions at once the next is
// dropped (the task's resolver asks again), a resolver has kDnsPatience to answer before the next
// is asked, and when none did the answer is SERVFAIL. What is no query of one question is dropped.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "base/async.h"
#include "base/result.h"
#include "network/subnets.h"

namespace hob::network {

inline constexpr size_t kDnsQueriesMax = 256;     // in flight by UDP
inline constexpr size_t kDnsConnectionsMax = 64;  // by TCP; beyond: closed at once
inline constexpr Duration kDnsPatience = std::chrono::seconds(2);
inline constexpr Duration kDnsConnectionIdle = std::chrono::seconds(10);

struct DnsForwarderOptions {
  std::filesystem::path vpc{};  // Vpc::handle()
  std::string address = std::string(kVpcDns);
  uint16_t port = 53;
  std::filesystem::path resolv_conf = "/etc/resolv.conf";
  uint16_t resolver_port = 53;
};

class DnsForwarder {
 public:
  DnsForwarder(DnsForwarderOptions options, const Executor& executor);
  ~DnsForwarder();
  // Opens the sockets (blocks for a moment) and begins to answer. The Vpc must be set up.
  Result<void> start();
  // Ends all of it; before the destructor.
  Async<> stop();

 private:
  class Core;
  std::unique_ptr<Core> core_;
};

}  // namespace hob::network
