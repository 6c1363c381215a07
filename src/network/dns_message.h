// As much of DNS messages (RFC 1035, section 4) as a forwarder must understand. Pure; the bytes
// come from tasks and from the network and are not trusted.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace hob::network {

inline constexpr size_t kDnsMessageBytesMax = 65'535;
inline constexpr size_t kDnsNameBytesMax = 255;
inline constexpr size_t kResolversMax = 3;  // glibc's MAXNS

// The header and the one question at the start of a message, as bytes; nullopt: it is no standard
// query of one question. Names are not compressed there: nothing stands before them.
std::optional<std::string_view> dns_question(std::string_view query);
uint16_t dns_id(std::string_view message);  // of at least 12 bytes
void set_dns_id(std::string& message, uint16_t id);
// Does `answer` answer `query` (same id, same question, letter case included)?
bool answers_dns(std::string_view query, std::string_view answer);
// "Server failure" to that query, which dns_question() accepted.
std::string dns_servfail(std::string_view query);
// The name servers of a resolv.conf, at most kResolversMax, as written there; comments and the rest
// passed over.
std::vector<std::string> parse_resolvers(std::string_view resolv_conf);

}  // namespace hob::network
