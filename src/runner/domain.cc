#include "runner/domain.h"

#include <algorithm>

namespace hob::runner {
namespace {

constexpr size_t kNameBytesMax = 253;
constexpr size_t kLabelBytesMax = 63;
constexpr size_t kWwwBytes = 4;

bool is_label(std::string_view label) {
  return !label.empty() && label.size() <= kLabelBytesMax && label.front() != '-' &&
         label.back() != '-' && std::ranges::all_of(label, [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
         });
}

bool is_bound(const DomainView& view) {
  return std::ranges::all_of(host_names_of(view.domain), [&](const std::string& host) {
    const auto found = view.bound.find(host);
    return found != view.bound.end() && found->second == view.domain.certificate;
  });
}

bool is_wildcard(const Domain& domain) { return domain.name.starts_with("*."); }

DomainAction put(Domain domain, DomainStatus status, std::string reason = {}) {
  domain.status = status;
  domain.reason = std::move(reason);
  return PutDomain{std::move(domain)};
}

DomainAction decide_proof(const DomainView& view, Instant now) {
  Domain domain = view.domain;
  if (is_reserved_name(domain.name) ||
      std::ranges::any_of(domain.proofs, &DomainProof::seen)) {
    domain.proven = true;
    return put(std::move(domain), DomainStatus::kBindingCertificate);
  }
  if (now - domain.created_at >= kDomainProofWithin) {
    return put(std::move(domain), DomainStatus::kCreateFailed,
               "the alias was not seen in the DNS within 72 hours");
  }
  if (!view.has_address) {
    if (domain.next_look_at && now < *domain.next_look_at) return DomainWakeAt{*domain.next_look_at};
    return LookUp{};
  }
  // What leads here may be proven by the authority's own question.
  if (view.acme && *view.has_address && !is_wildcard(domain) &&
      (!domain.next_attempt_at || now >= *domain.next_attempt_at)) {
    return ObtainCertificate{};
  }
  const Duration age = now - domain.created_at;
  domain.next_look_at = now + std::clamp(age / 10, kDomainLookMin, kDomainLookMax);
  return PutDomain{std::move(domain)};
}

}  // namespace

Result<std::string> parse_domain_name(std::string_view text, std::string_view own_suffix) {
  std::string name(text);
  for (char& c : name) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  std::string_view rest = name;
  if (rest.starts_with("*.")) rest.remove_prefix(2);
  if (name.size() + kWwwBytes > kNameBytesMax)
    return fail(Code::kInvalid, "it is longer than {} characters", kNameBytesMax - kWwwBytes);
  if (rest == own_suffix || rest.ends_with("." + std::string(own_suffix)))
    return fail(Code::kInvalid, "names below {} are given by Hob", own_suffix);
  size_t labels = 0;
  bool numeric = true;
  for (size_t from = 0; from <= rest.size(); ++labels) {
    const size_t dot = std::min(rest.find('.', from), rest.size());
    const std::string_view label = rest.substr(from, dot - from);
    if (!is_label(label))
      return fail(Code::kInvalid, "labels have letters, digits and hyphens between them");
    numeric = std::ranges::all_of(label, [](char c) { return c >= '0' && c <= '9'; });
    from = dot + 1;
  }
  if (labels < 2) return fail(Code::kInvalid, "a domain has two labels at least");
  if (numeric) return fail(Code::kInvalid, "an address is no domain");
  return name;
}

std::vector<std::string> host_names_of(const Domain& domain) {
  std::vector<std::string> names = {domain.name};
  if (domain.www) names.push_back("www." + domain.name);
  return names;
}

bool is_reserved_name(std::string_view name) {
  return name.ends_with(".localhost") || name.ends_with(".test");
}

DomainAction decide_domain(const DomainView& view, Instant now) {
  const Domain& domain = view.domain;
  if (view.service_gone || domain.status == DomainStatus::kDeleting) return RemoveDomain{};
  if (domain.status == DomainStatus::kCreateFailed) return DomainWakeAt{now + kDomainRetryMax};
  if (domain.status == DomainStatus::kCreating)
    return put(domain, DomainStatus::kPendingCertificateDnsValidation);
  if (!domain.proven) return decide_proof(view, now);

  const bool has_certificate = !domain.certificate.empty();
  if (has_certificate && !is_bound(view)) return BindDomain{};
  if (has_certificate && domain.status != DomainStatus::kActive) {
    const Instant until = domain.bound_at.value_or(now) + kDomainShowWithin;
    if (view.shown || now >= until) return put(domain, DomainStatus::kActive);
    return DomainWakeAt{now + kDomainShowLook};
  }
  if (has_certificate && now < domain.renew_at) return DomainWakeAt{domain.renew_at};
  if (view.acme && is_wildcard(domain)) {
    const std::string reason = "authorities vouch for a wildcard only by DNS, which Hob does not set";
    if (domain.reason != reason) return put(domain, domain.status, reason);
    return DomainWakeAt{now + kDomainRetryMax};
  }
  if (domain.next_attempt_at && now < *domain.next_attempt_at)
    return DomainWakeAt{*domain.next_attempt_at};
  return ObtainCertificate{};
}

Instant domain_retry_at(int attempts, Duration asked_for, Instant now) {
  Duration delay = kDomainRetryMin;
  for (int i = 1; i < attempts && delay < kDomainRetryMax; ++i) delay *= 2;
  return now + std::max(std::min(delay, kDomainRetryMax), asked_for);
}

}  // namespace hob::runner
