#include "runner/given_certificates.h"

#include <algorithm>

#include "base/log.h"
#include "runner/keys.h"

namespace hob::runner {
namespace {

constexpr size_t kNameBytesMax = 253;  // a host name's

}  // namespace

Async<Result<std::vector<GivenCertificate>>> given_certificates(store::Store& store,
                                                                std::string account) {
  HOB_CO_TRY(const store::Listing listing, co_await store.list(given_certificates_of(account)));
  std::vector<GivenCertificate> all;
  for (const store::Entry& entry : listing.entries) {
    auto given = decode_given_certificate(entry.value);
    if (given)
      all.push_back(std::move(*given));
    else
      log::error("record unreadable", {{"key", entry.key}, {"error", given.error().message}});
  }
  co_return all;
}

Result<void> check_certificate_name(std::string_view name) {
  const bool good =
      !name.empty() && name.size() <= kNameBytesMax && std::ranges::all_of(name, [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               c == '-' || c == '.' || c == '_' || c == '*';
      });
  if (good) return {};
  return fail(Code::kInvalid,
              "a certificate's name has 1 to {} letters, digits, '.', '-', '_' or '*'",
              kNameBytesMax);
}

Result<GivenCertificate> check_given(const std::string& name, const CertifiedKey& pair,
                                     Instant now) {
  HOB_CHECK(check_chain(pair, now));
  HOB_TRY(CertificateFacts facts, read_certificate(pair.certificate));
  if (facts.host_names.size() > kCertificateNamesMax)
    return fail(Code::kInvalid, "the certificate has more than {} host names",
                kCertificateNamesMax);
  GivenCertificate given{.name = name.empty() ? facts.host_names.front() : name,
                         .host_names = std::move(facts.host_names),
                         .not_before = facts.not_before,
                         .not_after = facts.not_after,
                         .added_at = now};
  HOB_CHECK(check_certificate_name(given.name));
  return given;
}

}  // namespace hob::runner
