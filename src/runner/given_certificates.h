// Certificates that their owners bring, as records: read, checked and written. The API calls it,
// and the domains' controller.
#pragma once

#include <string>
#include <vector>

#include "base/async.h"
#include "base/certificate.h"
#include "base/result.h"
#include "base/time.h"
#include "runner/records.h"
#include "store/store.h"

namespace hob::runner {

inline constexpr size_t kGivenCertificatesMax = 100;  // an account's
inline constexpr size_t kCertificateNamesMax = 100;   // host names in one, as Let's Encrypt's

// The account's, those on their way out, too; one that cannot be read is left out and logged.
Async<Result<std::vector<GivenCertificate>>> given_certificates(store::Store& store,
                                                                std::string account);

// A record of what was brought. `name` empty: its first host name. kInvalid: says for people what
// is wrong with the chain, its key, or the name.
Result<GivenCertificate> check_given(const std::string& name, const CertifiedKey& pair,
                                     Instant now);
// kInvalid: no name that one can have.
Result<void> check_certificate_name(std::string_view name);

}  // namespace hob::runner
