#include "certify/dns.h"

#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <netdb.h>
#include <netinet/in.h>
#include <resolv.h>

#include <array>
#include <charconv>
#include <vector>

namespace hob::certify {
namespace {

constexpr size_t kAnswerBytesMax = 16 * 1024;
constexpr uint16_t kDnsPort = 53;

std::optional<sockaddr_in> parse_resolver(const std::string& text) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  const size_t colon = text.find(':');
  uint16_t port = kDnsPort;
  if (colon != std::string::npos) {
    const char* end = text.data() + text.size();
    const auto [read, error] = std::from_chars(text.data() + colon + 1, end, port);
    if (error != std::errc{} || read != end || port == 0) return std::nullopt;
  }
  address.sin_port = htons(port);
  if (::inet_pton(AF_INET, text.substr(0, colon).c_str(), &address.sin_addr) != 1)
    return std::nullopt;
  return address;
}

struct Found {
  std::optional<std::string> alias{};
  bool has_record = false;  // of the type asked for, the alias's own too
};

std::string plain_name(const char* name) {
  std::string plain(name);
  if (plain.ends_with('.')) plain.pop_back();
  for (char& c : plain) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return plain;
}

Result<Found> ask(const std::string& resolver, const std::string& name, ns_type type) {
  struct __res_state state{};
  if (::res_ninit(&state) != 0) return fail(Code::kUnavailable, "/etc/resolv.conf cannot be read");
  state.retry = kDnsTries;
  state.retrans = kDnsPatienceSeconds;
  state.options &= ~static_cast<unsigned long>(RES_DNSRCH | RES_DEFNAMES);
  if (!resolver.empty()) {
    const auto address = parse_resolver(resolver);
    if (!address) return fail(Code::kInvalid, "'{}' is no resolver's address", resolver);
    state.nsaddr_list[0] = *address;
    state.nscount = 1;
  }
  std::vector<unsigned char> answer(kAnswerBytesMax);
  const int size = ::res_nquery(&state, name.c_str(), ns_c_in, type, answer.data(),
                                static_cast<int>(answer.size()));
  const int why = state.res_h_errno;
  ::res_nclose(&state);
  if (size < 0) {
    if (why == HOST_NOT_FOUND || why == NO_DATA) return Found{};
    return fail(Code::kUnavailable, "no resolver answers what {} is", name);
  }
  ns_msg message;
  if (::ns_initparse(answer.data(), std::min(size, static_cast<int>(answer.size())), &message) != 0)
    return fail(Code::kUnavailable, "the resolver's answer for {} cannot be read", name);
  Found found;
  const int count = ns_msg_count(message, ns_s_an);
  for (int i = 0; i < count; ++i) {
    ns_rr record;
    if (::ns_parserr(&message, ns_s_an, i, &record) != 0) break;
    found.has_record = found.has_record || ns_rr_type(record) == type;
    if (ns_rr_type(record) != ns_t_cname || plain_name(ns_rr_name(record)) != name) continue;
    std::array<char, NS_MAXDNAME> target{};
    if (::dn_expand(ns_msg_base(message), ns_msg_end(message), ns_rr_rdata(record), target.data(),
                    static_cast<int>(target.size())) < 0) {
      continue;
    }
    found.alias = plain_name(target.data());
  }
  return found;
}

}  // namespace

Result<void> ResolverDns::check(const std::string& resolver) {
  if (resolver.empty() || parse_resolver(resolver)) return {};
  return fail(Code::kInvalid, "'{}' is no resolver: an IPv4 address, with :PORT where it is not 53",
              resolver);
}

Async<Result<std::optional<std::string>>> ResolverDns::alias_of(std::string name) {
  HOB_CO_TRY(const Found found, co_await on_pool(pool_, [resolver = resolver_, name] {
               return ask(resolver, name, ns_t_cname);
             }));
  co_return found.alias;
}

Async<Result<bool>> ResolverDns::has_address(std::string name) {
  for (const ns_type type : {ns_t_a, ns_t_aaaa}) {
    HOB_CO_TRY(const Found found, co_await on_pool(pool_, [resolver = resolver_, name, type] {
                 return ask(resolver, name, type);
               }));
    if (found.has_record) co_return true;
  }
  co_return false;
}

}  // namespace hob::certify
