// The instance's own authority, and the certificate that it issues for its services' names.
//
//   DATA/tls/                0755 root
//     authority.pem          0644        what `hob trust` installs
//     authority.key          0600 root   nobody else ever sees it: not the edge either
//   DATA/certificates/       0755 root   what the edge reads (edge/certificates.h)
//     local.pem              0400 kEdgeUid, *.REGION.hob.localhost with its key
//
// Made by the supervisor when it starts and renewed by it. All of this blocks, for some
// milliseconds when something is made.
#pragma once

#include <filesystem>
#include <optional>

#include "base/certificate.h"
#include "base/result.h"
#include "cli/instance.h"

namespace hob::cli {

inline constexpr const char* kLocalDomain = "hob.localhost";
inline constexpr Duration kAuthorityLife = std::chrono::hours(24 * 3650);
// Its successor must be trusted anew, so it comes long before its end.
inline constexpr Duration kAuthorityRenewBefore = std::chrono::hours(24 * 365);
inline constexpr Duration kCertificateLife = std::chrono::hours(24 * 90);
inline constexpr Duration kCertificateRenewBefore = std::chrono::hours(24 * 30);
inline constexpr Duration kCertificateLook = std::chrono::hours(6);
static_assert(kCertificateLife < kAuthorityRenewBefore, "it never outlives its authority");

std::filesystem::path authority_path(const Instance& instance);

// What there is, as far as it can be read. nullopt: there is none.
struct CertificateView {
  std::optional<CertificateFacts> authority{};
  std::optional<CertificateFacts> certificate{};
  bool signed_by_authority = false;
  std::string host_name{};  // that the certificate must have
};
enum class CertificateAction { kNothing, kIssue, kMakeAuthorityAndIssue };
CertificateAction decide_certificate(const CertificateView& view, Instant now);

// Makes what is missing, renews what is near its end. Idempotent.
Result<CertificateAction> keep_certificate(const Instance& instance, Instant now);

}  // namespace hob::cli
