#include "runner/domain.h"

#include <algorithm>
#include <tuple>

#include "base/certificate.h"

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

// What each of the domain's names is to be shown with; empty: nothing yet. A given certificate goes
// before the domain's own one.
struct Choice {
  std::map<std::string, std::string> certificates{};  // ids, by host name
  bool complete = true;                               // each name has one
  bool settled = true;             // by given ones alone: the domain needs none of its own
  std::optional<Instant> until{};  // when the first of those given ends
  // From when on the domain has one of its own ready for that moment.
  std::optional<Instant> ahead_at{};
};

Instant ahead_of(const GivenCertificate& given) {
  return given.not_after - std::min((given.not_after - given.not_before) / 3, kDomainAheadMax);
}

Choice choose(const DomainView& view, Instant now) {
  Choice choice;
  for (const std::string& host : host_names_of(view.domain)) {
    std::string& chosen = choice.certificates[host];
    if (const GivenCertificate* given = given_for(view.given, host, now)) {
      chosen = given->id;
      choice.until = std::min(choice.until.value_or(given->not_after), given->not_after);
      choice.ahead_at = std::min(choice.ahead_at.value_or(ahead_of(*given)), ahead_of(*given));
      continue;
    }
    choice.settled = false;
    chosen = view.domain.certificate;
    // One that has ended, or was taken away, is better than none.
    const auto bound = view.bound.find(host);
    if (chosen.empty() && bound != view.bound.end() &&
        std::ranges::find(view.given, bound->second, &GivenCertificate::id) != view.given.end()) {
      chosen = bound->second;
    }
    choice.complete = choice.complete && !chosen.empty();
  }
  return choice;
}

bool is_bound(const DomainView& view, const Choice& choice) {
  return std::ranges::all_of(choice.certificates, [&](const auto& wanted) {
    const auto found = view.bound.find(wanted.first);
    return found != view.bound.end() && found->second == wanted.second;
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

const GivenCertificate* given_for(const std::vector<GivenCertificate>& given, std::string_view host,
                                  Instant now) {
  const auto covers = [host](const std::string& name) {
    return name == host || host_matches(name, host);
  };
  const GivenCertificate* best = nullptr;
  for (const GivenCertificate& each : given) {
    if (each.removed_at || now < each.not_before || now >= each.not_after) continue;
    if (!std::ranges::any_of(each.host_names, covers)) continue;
    if (best == nullptr ||
        std::tie(best->not_before, best->id) < std::tie(each.not_before, each.id)) {
      best = &each;
    }
  }
  return best;
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

  const Choice choice = choose(view, now);
  if (choice.complete && !is_bound(view, choice)) return BindDomain{choice.certificates};
  if (choice.complete && domain.status != DomainStatus::kActive) {
    const Instant until = domain.bound_at.value_or(now) + kDomainShowWithin;
    if (view.shown || now >= until) return put(domain, DomainStatus::kActive);
    return DomainWakeAt{now + kDomainShowLook};
  }
  if (choice.settled && now < *choice.ahead_at) {
    if (!domain.reason.empty()) return put(domain, domain.status);
    return DomainWakeAt{*choice.ahead_at};
  }
  const Instant given_until = choice.until.value_or(Instant::max());
  if (!domain.certificate.empty() && now < domain.renew_at)
    return DomainWakeAt{std::min(domain.renew_at, given_until)};
  if (view.acme && is_wildcard(domain)) {
    const std::string reason =
        "ACME authorities vouch for a wildcard only by DNS-01, which Hob does not do: add a "
        "certificate for " +
        domain.name + " from files (hob certificate add CHAIN KEY)";
    if (domain.reason != reason) return put(domain, domain.status, reason);
    return DomainWakeAt{std::min(now + kDomainRetryMax, given_until)};
  }
  if (domain.next_attempt_at && now < *domain.next_attempt_at)
    return DomainWakeAt{std::min(*domain.next_attempt_at, given_until)};
  return ObtainCertificate{};
}

Instant domain_retry_at(int attempts, Duration asked_for, Instant now) {
  Duration delay = kDomainRetryMin;
  for (int i = 1; i < attempts && delay < kDomainRetryMax; ++i) delay *= 2;
  return now + std::max(std::min(delay, kDomainRetryMax), asked_for);
}

}  // namespace hob::runner
