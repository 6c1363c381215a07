#include "cli/local_certificate.h"

#include <algorithm>

#include "base/file.h"

namespace hob::cli {
namespace {

constexpr size_t kPemBytesMax = 64 * 1024;

std::filesystem::path key_path(const Instance& instance) {
  return instance.data / "tls" / "authority.key";
}

std::string read_or_nothing(const std::filesystem::path& path) {
  return read_file(path, kPemBytesMax).value_or("");
}

std::optional<CertificateFacts> facts_of(const std::string& pem) {
  if (auto facts = read_certificate(pem)) return std::move(*facts);
  return std::nullopt;
}

}  // namespace

std::filesystem::path authority_path(const Instance& instance) {
  return instance.data / "tls" / "authority.pem";
}

CertificateAction decide_certificate(const CertificateView& view, Instant now) {
  if (!view.authority || view.authority->not_after - now < kAuthorityRenewBefore)
    return CertificateAction::kMakeAuthorityAndIssue;
  const auto& certificate = view.certificate;
  const bool good =
      certificate && view.signed_by_authority && certificate->not_before <= now &&
      certificate->not_after - now >= kCertificateRenewBefore &&
      std::ranges::find(certificate->host_names, view.host_name) != certificate->host_names.end();
  return good ? CertificateAction::kNothing : CertificateAction::kIssue;
}

Result<CertificateAction> keep_certificate(const Instance& instance, Instant now) {
  HOB_CHECK(make_directories(instance.data / "tls", 0755));
  HOB_CHECK(make_directories(instance.data / "certificates", 0755));
  const std::filesystem::path local = instance.data / "certificates" / "local.pem";
  CertifiedKey authority{.certificate = read_or_nothing(authority_path(instance)),
                         .key = read_or_nothing(key_path(instance))};
  const std::string current = read_or_nothing(local);
  CertificateView view{.authority = facts_of(authority.certificate),
                       .certificate = facts_of(current),
                       .signed_by_authority = is_signed_by(current, authority.certificate),
                       .host_name = "*." + instance.region + "." + kLocalDomain};
  // A key beside another's certificate issues what nobody can verify.
  if (!is_pair(authority)) view.authority.reset();
  const CertificateAction action = decide_certificate(view, now);
  if (action == CertificateAction::kNothing) return action;
  if (action == CertificateAction::kMakeAuthorityAndIssue) {
    HOB_TRY(authority, make_authority("Hob local authority " + instance.id, kLocalDomain, now,
                                      kAuthorityLife));
    // The key first: a certificate without its key could issue nothing.
    HOB_CHECK(write_file_durably(key_path(instance), authority.key, 0600));
    HOB_CHECK(write_file_durably(authority_path(instance), authority.certificate, 0644));
  }
  HOB_TRY(const CertifiedKey issued,
          issue_certificate(authority, {view.host_name}, now, kCertificateLife));
  HOB_CHECK(write_owned(local, issued.certificate + issued.key, kEdgeUid));
  return action;
}

}  // namespace hob::cli
