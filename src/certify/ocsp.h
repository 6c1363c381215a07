// What an authority says of a certificate that it issued: asked for, and checked (RFC 6960), so
// that edges can show it with the certificate ("stapling", RFC 6066 section 8).
//
// Pure but for ask_responder().
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/async.h"
#include "base/result.h"
#include "base/time.h"
#include "certify/fetch.h"

namespace hob::certify {

inline constexpr size_t kOcspBytesMax = 16 * 1024;  // an answer with a signer's certificate: 2 KiB
// Clocks differ: an answer may be from so far ahead.
inline constexpr Duration kOcspClockSlack = std::chrono::minutes(5);
// An answer that does not say when there is a newer one.
inline constexpr Duration kOcspLifeUnsaid = std::chrono::hours(1);

struct OcspQuestion {
  std::string url{};
  std::string request{};  // DER
};
// About the first certificate in `chain` (PEM). nullopt: it names no responder, or the chain lacks
// who issued it.
std::optional<OcspQuestion> ocsp_question(std::string_view chain);

struct OcspAnswer {
  std::string response{};  // DER, to be shown as it is
  Instant until{};         // good for nothing afterwards
};
// kInvalid: not about that certificate, not signed by who may, not of now. kDenied: the authority
// says that the certificate is revoked, or that it does not know it.
Result<OcspAnswer> check_ocsp(std::string_view chain, std::string_view response, Instant now);

// Whether clients shall not accept the chain's first certificate without such an answer (RFC 7633).
bool must_staple(std::string_view chain);

// The address is what somebody's certificate says: kPublic keeps it from what only this machine, or
// its networks, can reach.
enum class Responders { kPublic, kAny };

// Asks, and checks what is answered. Errors as Fetcher's, and check_ocsp's.
Async<Result<OcspAnswer>> ask_responder(Fetcher& fetcher, Clock& clock, std::string chain,
                                        OcspQuestion question, Responders allowed);

}  // namespace hob::certify
