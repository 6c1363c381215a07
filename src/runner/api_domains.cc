// Custom domains: AssociateCustomDomain, DescribeCustomDomains, DisassociateCustomDomain.
#include <algorithm>

#include "aws/apprunner/errors.h"
#include "base/log.h"
#include "runner/api.h"
#include "runner/domain.h"
#include "runner/keys.h"
#include "runner/paging.h"

namespace hob::runner {

using namespace aws::apprunner;

namespace {

// Statuses of domains are answered in lower case, whatever the model says.
std::string lower(std::string word) {
  for (char& c : word) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return word;
}

CustomDomain show_domain(const Domain& domain) {
  CustomDomain shown{.domain_name = domain.name,
                     .enable_www_subdomain = domain.www,
                     .status = lower(word(domain.status))};
  if (domain.status == DomainStatus::kCreating) return shown;
  std::vector<CertificateValidationRecord> records;
  for (const DomainProof& proof : domain.proofs) {
    const bool failed = domain.status == DomainStatus::kCreateFailed;
    records.push_back({.name = proof.name + ".",
                       .type = "CNAME",
                       .value = proof.value + ".",
                       .status = proof.seen || domain.proven ? "SUCCESS"
                                 : failed                    ? "FAILED"
                                                             : "PENDING_VALIDATION"});
  }
  shown.certificate_validation_records = std::move(records);
  return shown;
}

}  // namespace

Async<Result<std::vector<Domain>>> Api::domains_of_service(std::string account,
                                                           std::string service) {
  HOB_CO_TRY(const store::Listing listing, co_await store_.list(domains_of(account, service)));
  std::vector<Domain> domains;
  for (const store::Entry& entry : listing.entries) {
    auto domain = decode_domain(entry.value);
    if (domain)
      domains.push_back(std::move(*domain));
    else
      log::error("record unreadable", {{"key", entry.key}, {"error", domain.error().message}});
  }
  co_return domains;
}

Async<Result<AssociateCustomDomainResponse>> Api::associate_custom_domain(
    AssociateCustomDomainRequest request, aws::Caller caller) {
  auto name = parse_domain_name(request.domain_name, options_.url_suffix);
  if (!name) {
    co_return invalid_request_exception(fmt::format("The domain name '{}' isn't valid: {}.",
                                                    request.domain_name, name.error().message));
  }
  for (int attempt = 0; attempt < kConflictRetriesMax; ++attempt) {
    auto stored = co_await find_service(request.service_arn, caller);
    // The model has no ResourceNotFoundException here.
    if (!stored && stored.error().aws_code == "ResourceNotFoundException")
      co_return invalid_request_exception(stored.error().message);
    if (!stored) co_return fail(stored.error());
    const runner::Service& service = stored->value;
    if (service.status == ServiceStatus::kDeleted ||
        service.status == ServiceStatus::kCreateFailed) {
      co_return invalid_state_exception(fmt::format(
          "A custom domain cannot be associated in the current state: {}.", word(service.status)));
    }
    HOB_CO_TRY(const std::vector<Domain> others,
               co_await domains_of_service(service.account, service.id));
    if (others.size() >= kDomainsPerServiceMax) {
      co_return invalid_request_exception(
          fmt::format("A service has at most {} custom domains.", kDomainsPerServiceMax));
    }
    Domain domain{.account = service.account,
                  .service = service.id,
                  .name = *name,
                  .www = request.enable_www_subdomain.value_or(true) && !name->starts_with("*."),
                  .created_at = clock_.now()};
    store::Transaction transaction;
    const std::string target = fmt::format("validations.{}.{}", service.region, options_.url_suffix);
    // As App Runner: one for each host name, and one more.
    std::vector<std::string> proven = host_names_of(domain);
    proven.push_back(random_hex(random_, 16) + "." + domain.name);
    for (std::string& host : proven) {
      if (host.starts_with("*.")) host.erase(0, 2);
      domain.proofs.push_back(
          {.name = fmt::format("_{}.{}", random_hex(random_, 32), host),
           .value = fmt::format("_{}.{}", random_hex(random_, 32), target)});
    }
    for (const std::string& host : host_names_of(domain)) {
      const std::string path = domain_host_key(host);
      HOB_CO_TRY(const auto taken, co_await store_.get(path));
      if (taken) {
        co_return invalid_request_exception(
            fmt::format("Domain name {} is already associated with a service.", host));
      }
      transaction.expect[path] = store::kAbsent;
      transaction.put[path] = service.id;
    }
    // With the service, so that it is not deleted, nor given a sixth one, meanwhile.
    transaction.expect[stored->entry.key] = stored->entry.revision;
    transaction.put[stored->entry.key] = stored->entry.value;
    transaction.put[domain_key(service.account, service.id, domain.name)] = encode(domain);
    const auto committed = co_await store_.commit(std::move(transaction));
    if (committed) {
      log::info("domain associated", {{"service", service.id}, {"domain", domain.name}});
      co_return AssociateCustomDomainResponse{.dns_target = service.url,
                                              .service_arn = request.service_arn,
                                              .custom_domain = show_domain(domain)};
    }
    if (committed.error().code != Code::kConflict) co_return fail(committed.error());
  }
  co_return overtaken();
}

Async<Result<DescribeCustomDomainsResponse>> Api::describe_custom_domains(
    DescribeCustomDomainsRequest request, aws::Caller caller) {
  HOB_CO_TRY(const auto stored, co_await find_service(request.service_arn, caller));
  HOB_CO_TRY(const std::vector<Domain> domains,
             co_await domains_of_service(caller.account, stored.value.id));
  std::vector<std::pair<std::string, CustomDomain>> items;
  for (const Domain& domain : domains) items.emplace_back(domain.name, show_domain(domain));
  HOB_CO_TRY(auto page, page_of(std::move(items), request.next_token, request.max_results,
                                "DescribeCustomDomains"));
  co_return DescribeCustomDomainsResponse{.dns_target = stored.value.url,
                                          .service_arn = request.service_arn,
                                          .custom_domains = std::move(page.items),
                                          .next_token = std::move(page.next_token)};
}

Async<Result<DisassociateCustomDomainResponse>> Api::disassociate_custom_domain(
    DisassociateCustomDomainRequest request, aws::Caller caller) {
  for (int attempt = 0; attempt < kConflictRetriesMax; ++attempt) {
    HOB_CO_TRY(const auto stored, co_await find_service(request.service_arn, caller));
    const std::string path =
        domain_key(caller.account, stored.value.id, lower(request.domain_name));
    HOB_CO_TRY(const auto entry, co_await store_.get(path));
    if (!entry) {
      co_return resource_not_found_exception(
          fmt::format("Custom domain {} is not associated with service {}.", request.domain_name,
                      stored.value.name));
    }
    HOB_CO_TRY(Domain domain, context(decode_domain(entry->value), "record {}", path));
    if (domain.status == DomainStatus::kDeleting) {
      co_return invalid_state_exception(
          fmt::format("Custom domain {} is being disassociated already.", domain.name));
    }
    domain.status = DomainStatus::kDeleting;
    store::Transaction transaction;
    transaction.expect[path] = entry->revision;
    transaction.put[path] = encode_over(domain, entry->value);
    const auto committed = co_await store_.commit(std::move(transaction));
    if (committed) {
      co_return DisassociateCustomDomainResponse{.dns_target = stored.value.url,
                                                 .service_arn = request.service_arn,
                                                 .custom_domain = show_domain(domain)};
    }
    if (committed.error().code != Code::kConflict) co_return fail(committed.error());
  }
  co_return overtaken();
}

}  // namespace hob::runner
