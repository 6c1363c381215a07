// Certificates of people's own, and what is shown for their domains; what App Runner has no
// operations for.
#include <algorithm>

#include "aws/apprunner/errors.h"
#include "base/log.h"
#include "cluster/keys.h"
#include "cluster/records.h"
#include "runner/api.h"
#include "runner/given_certificates.h"
#include "runner/keys.h"
#include "runner/staple.h"

namespace hob::runner {

using namespace aws::apprunner;

Async<Result<GivenCertificate>> Api::put_certificate(std::string name, CertifiedKey pair,
                                                     aws::Caller caller) {
  auto checked = check_given(name, pair, clock_.now());
  if (!checked) co_return invalid_request_exception(checked.error().message);
  GivenCertificate given = std::move(*checked);
  given.account = caller.account;
  const std::string path = given_certificate_key(given.account, given.name);
  for (int attempt = 0; attempt < kConflictRetriesMax; ++attempt) {
    HOB_CO_TRY(const auto entry, co_await store_.get(path));
    store::Transaction transaction;
    if (entry) {
      HOB_CO_TRY(const GivenCertificate before,
                 context(decode_given_certificate(entry->value), "record {}", path));
      // Under the same id: edges go from one to the other, and are never without.
      given.id = before.id;
      transaction.expect[path] = entry->revision;
      transaction.put[path] = encode_over(given, entry->value);
    } else {
      HOB_CO_TRY(const auto others, co_await given_certificates(store_, given.account));
      if (others.size() >= kGivenCertificatesMax) {
        co_return invalid_request_exception(
            fmt::format("An account has at most {} certificates.", kGivenCertificatesMax));
      }
      given.id = random_hex(random_, 32);
      transaction.expect[path] = store::kAbsent;
      transaction.put[path] = encode(given);
    }
    const std::string certificate = cluster::certificate_key(given.account, given.id);
    const cluster::Certificate made{.id = given.id,
                                    .account = given.account,
                                    .certificate = pair.certificate,
                                    .key = pair.key,
                                    .created_at = given.added_at};
    HOB_CO_CHECK(co_await put_certificate_record(store_, certificate, made, transaction));
    const auto committed = co_await store_.commit(std::move(transaction));
    if (committed) {
      log::info("certificate added", {{"name", given.name}, {"until", iso8601(given.not_after)}});
      co_return given;
    }
    if (committed.error().code != Code::kConflict) co_return fail(committed.error());
  }
  co_return overtaken();
}

Async<Result<void>> Api::delete_certificate(std::string name, aws::Caller caller) {
  if (const auto checked = check_certificate_name(name); !checked)
    co_return invalid_request_exception(checked.error().message);
  const std::string path = given_certificate_key(caller.account, name);
  for (int attempt = 0; attempt < kConflictRetriesMax; ++attempt) {
    HOB_CO_TRY(const auto entry, co_await store_.get(path));
    if (!entry) co_return resource_not_found_exception(fmt::format("No certificate {}.", name));
    HOB_CO_TRY(GivenCertificate given,
               context(decode_given_certificate(entry->value), "record {}", path));
    if (given.removed_at) co_return Result<void>{};
    given.removed_at = clock_.now();
    store::Transaction transaction;
    transaction.expect[path] = entry->revision;
    transaction.put[path] = encode_over(given, entry->value);
    const auto committed = co_await store_.commit(std::move(transaction));
    if (committed) co_return Result<void>{};
    if (committed.error().code != Code::kConflict) co_return fail(committed.error());
  }
  co_return overtaken();
}

Async<Result<std::vector<CertificateLine>>> Api::list_certificates(aws::Caller caller) {
  std::map<std::string, std::vector<std::string>> shown;  // host names, by the certificate's id
  HOB_CO_TRY(const std::vector<runner::Service> services,
             co_await services_of_account(caller.account));
  for (const runner::Service& service : services) {
    for (const auto& [host, id] : service.custom_hosts) shown[id].push_back(host);
  }
  std::vector<CertificateLine> lines;
  HOB_CO_TRY(const auto given, co_await given_certificates(store_, caller.account));
  for (const GivenCertificate& each : given) {
    HOB_CO_TRY(const auto entry,
               co_await store_.get(cluster::certificate_key(caller.account, each.id)));
    const auto kept = cluster::decode_certificate(entry ? entry->value : "{}");
    lines.push_back({.name = each.name,
                     .source = "file",
                     .host_names = each.host_names,
                     .shown_for = shown[each.id],
                     .not_after = each.not_after,
                     .removed = each.removed_at.has_value(),
                     .reason = kept ? kept->staple_error : ""});
  }
  for (const runner::Service& service : services) {
    HOB_CO_TRY(const std::vector<Domain> domains,
               co_await domains_of_service(service.account, service.id));
    for (const Domain& domain : domains) {
      if (domain.certificate.empty()) continue;
      HOB_CO_TRY(const auto entry,
                 co_await store_.get(cluster::certificate_key(caller.account, domain.certificate)));
      if (!entry) continue;
      HOB_CO_TRY(const cluster::Certificate kept,
                 context(cluster::decode_certificate(entry->value), "record {}", entry->key));
      HOB_CO_TRY(const CertificateFacts facts, read_certificate(kept.certificate));
      const bool own = is_signed_by(kept.certificate, domain.authority);
      lines.push_back({.name = domain.name,
                       .source = own ? "own authority" : "ACME",
                       .host_names = facts.host_names,
                       .shown_for = shown[domain.certificate],
                       .not_after = facts.not_after,
                       .renew_at = domain.renew_at,
                       .reason = domain.reason});
    }
  }
  co_return lines;
}

Async<Result<std::vector<Domain>>> Api::list_domains(std::string arn, aws::Caller caller) {
  HOB_CO_TRY(const auto stored, co_await find_service(std::move(arn), caller));
  co_return co_await domains_of_service(caller.account, stored.value.id);
}

}  // namespace hob::runner
