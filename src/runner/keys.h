// Keys of runner's records. The account comes first, so that one account's records are one prefix.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace hob::runner {

inline constexpr std::string_view kServicesPrefix = "/runner/services/";
inline constexpr std::string_view kOperationsPrefix = "/runner/operations/";
inline constexpr std::string_view kRevisionsPrefix = "/runner/revisions/";
inline constexpr std::string_view kNamesPrefix =
    "/runner/names/";  // -> service id: a name is used once
inline constexpr std::string_view kSubdomainsPrefix =
    "/runner/subdomains/";  // -> service id, of all accounts
inline constexpr std::string_view kScalingPrefix = "/runner/autoscaling/";
inline constexpr std::string_view kScalingDefaultsPrefix =
    "/runner/autoscaling-default/";  // -> ScalingPointer
// -> ScalingPointer: written with every revision of a name, so that no two get the same number.
inline constexpr std::string_view kScalingNamesPrefix = "/runner/autoscaling-names/";

inline constexpr std::string_view kDomainsPrefix = "/runner/domains/";
inline constexpr std::string_view kDomainHostsPrefix =
    "/runner/domain-hosts/";  // host name -> service id, of all accounts
inline constexpr std::string_view kGivenCertificatesPrefix = "/runner/certificates/";
inline constexpr std::string_view kAcmeAccountsPrefix =
    "/runner/acme-accounts/";  // -> the account's key, PEM: secret

inline constexpr std::string_view kConnectionsPrefix = "/runner/connections/";
inline constexpr std::string_view kObservabilitiesPrefix = "/runner/observability/";

inline std::string connections_of(std::string_view account) {
  return std::string(kConnectionsPrefix).append(account).append("/");
}
inline std::string connection_key(std::string_view account, std::string_view name) {
  return connections_of(account).append(name);
}
inline std::string observabilities_of(std::string_view account) {
  return std::string(kObservabilitiesPrefix).append(account).append("/");
}
inline std::string observability_key(std::string_view account, std::string_view name,
                                     int revision) {
  return observabilities_of(account).append(name).append("/").append(std::to_string(revision));
}

inline std::string services_of(std::string_view account) {
  return std::string(kServicesPrefix).append(account).append("/");
}
inline std::string service_key(std::string_view account, std::string_view id) {
  return services_of(account).append(id);
}
inline std::string operations_of(std::string_view account) {
  return std::string(kOperationsPrefix).append(account).append("/");
}
inline std::string operations_of(std::string_view account, std::string_view service) {
  return operations_of(account).append(service).append("/");
}
inline std::string operation_key(std::string_view account, std::string_view service,
                                 std::string_view id) {
  return operations_of(account, service).append(id);
}
inline std::string revisions_of(std::string_view account, std::string_view service) {
  return std::string(kRevisionsPrefix).append(account).append("/").append(service).append("/");
}
// In the order of their numbers.
inline std::string revision_key(std::string_view account, std::string_view service, int number) {
  std::string digits = std::to_string(number);
  return revisions_of(account, service).append(10 - digits.size(), '0').append(digits);
}
inline std::string domains_of(std::string_view account, std::string_view service) {
  return std::string(kDomainsPrefix).append(account).append("/").append(service).append("/");
}
inline std::string domain_key(std::string_view account, std::string_view service,
                              std::string_view name) {
  return domains_of(account, service).append(name);
}
inline std::string domain_host_key(std::string_view host) {
  return std::string(kDomainHostsPrefix).append(host);
}
inline std::string given_certificates_of(std::string_view account) {
  return std::string(kGivenCertificatesPrefix).append(account).append("/");
}
inline std::string given_certificate_key(std::string_view account, std::string_view name) {
  return given_certificates_of(account).append(name);
}
inline std::string name_key(std::string_view account, std::string_view name) {
  return std::string(kNamesPrefix).append(account).append("/").append(name);
}
inline std::string subdomain_key(std::string_view subdomain) {
  return std::string(kSubdomainsPrefix).append(subdomain);
}
inline std::string scalings_of(std::string_view account) {
  return std::string(kScalingPrefix).append(account).append("/");
}
inline std::string scalings_named(std::string_view account, std::string_view name) {
  return scalings_of(account).append(name).append("/");
}
// Revisions of a name are numbered again after a deletion, so the id is part of the key.
inline std::string scaling_key(std::string_view account, std::string_view name, int revision,
                               std::string_view id) {
  return scalings_named(account, name).append(std::to_string(revision)).append("/").append(id);
}
inline std::string scaling_default_key(std::string_view account) {
  return std::string(kScalingDefaultsPrefix).append(account);
}
inline std::string scaling_name_key(std::string_view account, std::string_view name) {
  return std::string(kScalingNamesPrefix).append(account).append("/").append(name);
}

// (account, service id) of a key under `prefix` + "<account>/<service id>"; what follows is
// ignored.
inline std::optional<std::pair<std::string, std::string>> parse_service_key(std::string_view prefix,
                                                                            std::string_view key) {
  if (!key.starts_with(prefix)) return std::nullopt;
  key.remove_prefix(prefix.size());
  const size_t slash = key.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  const std::string_view rest = key.substr(slash + 1);
  return std::pair(std::string(key.substr(0, slash)), std::string(rest.substr(0, rest.find('/'))));
}

}  // namespace hob::runner
