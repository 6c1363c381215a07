// What becomes of a custom domain next: pure, so that doing it again after a crash does the same.
//
// creating -> pending_certificate_dns_validation: until its alias is seen in the DNS, or an
// authority has asked and was answered -> binding_certificate: until it has a certificate, and all
// edges show it -> active. docs/decisions/custom-domains.md.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "runner/records.h"

namespace hob::runner {

inline constexpr size_t kDomainsPerServiceMax = 5;  // App Runner's
inline constexpr Duration kDomainLookMin{2'000};    // between two looks into the DNS, longer with age
inline constexpr Duration kDomainLookMax = std::chrono::minutes(10);
inline constexpr Duration kDomainProofWithin = std::chrono::hours(72);  // as ACM; then it has failed
// After a try to get a certificate that failed; doubled each time. Let's Encrypt allows 5 an hour.
inline constexpr Duration kDomainRetryMin = std::chrono::minutes(2);
inline constexpr Duration kDomainRetryMax = std::chrono::hours(6);
// So long before the end of a given certificate, or a third of its life, one is obtained for what
// it is shown for: authorities take their time, and may refuse at first.
inline constexpr Duration kDomainAheadMax = std::chrono::hours(24 * 3);
inline constexpr Duration kDomainShowWithin{10'000};  // for all edges to show it
inline constexpr Duration kDomainShowLook{200};

// In lower case. kInvalid: says what is wrong with it. `own_suffix`: under which services have
// their own names.
Result<std::string> parse_domain_name(std::string_view text, std::string_view own_suffix);
// "shop.test" and, with www, "www.shop.test".
std::vector<std::string> host_names_of(const Domain& domain);
// The given certificate for the host name: of those that hold and are not on their way out, the one
// issued last. nullptr: none.
const GivenCertificate* given_for(const std::vector<GivenCertificate>& given, std::string_view host,
                                  Instant now);
// A name that nobody can own (RFC 6761): it needs no proof.
bool is_reserved_name(std::string_view name);

struct DomainView {
  Domain domain{};
  bool service_gone = false;
  std::map<std::string, std::string> bound{};  // the service's custom_hosts
  std::vector<GivenCertificate> given{};       // the account's
  bool acme = false;                           // there is an authority to ask
  bool shown = false;                          // by all edges, as it is bound
  std::optional<bool> has_address{};           // its name, as the DNS says now; nullopt: not asked
};

struct LookUp {};             // ask the DNS, note what it says, and decide again
struct ObtainCertificate {};  // from the authority, or of its own where there is none
struct BindDomain {           // its names lead to the service, with these certificates
  std::map<std::string, std::string> certificates{};  // ids, by host name
};
struct RemoveDomain {};       // and all that belongs to it
struct PutDomain {
  Domain domain{};
};
struct DomainWakeAt {
  Instant at{};
};
using DomainAction = std::variant<LookUp, ObtainCertificate, BindDomain, RemoveDomain, PutDomain,
                                  DomainWakeAt>;
DomainAction decide_domain(const DomainView& view, Instant now);

// When it may be tried again after `attempts` failures, the last one now.
Instant domain_retry_at(int attempts, Duration asked_for, Instant now);

}  // namespace hob::runner
