// Certificates as `hob certificate ls`, `hob status` and `hob doctor` see them.
#pragma once

#include <string>
#include <vector>

#include "base/async.h"
#include "base/result.h"
#include "base/time.h"
#include "cli/context.h"

namespace hob::cli {

// One that nobody renews is spoken of so long before its end; one that Hob renews (at two thirds of
// its life) when that is late.
inline constexpr Duration kCertificateWarnBefore = std::chrono::hours(24 * 21);
inline constexpr Duration kRenewalLateAfter = std::chrono::hours(24);

struct CertificateLine {
  std::string name{};
  std::string source{};
  std::vector<std::string> host_names{};
  std::vector<std::string> shown_for{};
  Instant not_after{};
  std::optional<Instant> renew_at{};
  bool removed = false;
  std::string reason{};
};

Async<Result<std::vector<CertificateLine>>> list_certificates(Api api);
// A sentence for each that a person must see to, with what to do.
std::vector<std::string> certificate_warnings(const std::vector<CertificateLine>& lines,
                                              Instant now);

}  // namespace hob::cli
