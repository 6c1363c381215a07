// AWS Signature Version 4: who signed a request, whether the signature holds, and signatures of our
// own.
//
// Pure: no clock, no store. Source: AWS's "Signature Version 4" pages; what is checked, in which
// order, is in verify().
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/digest.h"
#include "base/http.h"
#include "base/log.h"
#include "base/result.h"
#include "base/time.h"

namespace hob::aws {

inline constexpr Duration kClockSkewMax = std::chrono::minutes(5);
inline constexpr int kPresignedSecondsMax = 604'800;  // seven days
inline constexpr size_t kAuthorizationBytesMax =
    16 * 1024;  // the header, or a presigned query; beyond: malformed
inline constexpr size_t kSignedHeadersMax = 100;

// What a request claims; nothing of it is proven before verify().
struct Signature {
  std::string access_key_id{};
  std::string date{};  // "20261123", of the credential scope
  std::string region{};
  std::string service{};    // signing name
  std::string signed_at{};  // "20261123T221149Z"
  std::vector<std::string> signed_headers{};
  std::string signature{};       // 64 hex digits
  std::string security_token{};  // of temporary credentials; empty: none
  bool presigned = false;        // in the query string
  int expires_seconds = 0;       // presigned: from signed_at
};

// What the request carries. MissingAuthenticationTokenException: nothing.
// IncompleteSignatureException: malformed.
Result<Signature> read_signature(const http::Request& request);

// What is known of an access key.
struct KnownKey {
  Secret<std::string> secret{};
  std::string security_token{};         // temporary credentials: what the request must bring
  std::optional<Instant> expires_at{};  // temporary credentials
};
// nullopt: no such key, or not active.
using KeyLookup = std::function<std::optional<KnownKey>(std::string_view access_key_id)>;

// Proves `signature`, which was read from `request`, in this order: the key exists and its token is
// right and not expired (UnrecognizedClientException, ExpiredTokenException); the clock, the date
// and the region of the scope, `host` and every x-amz-* header signed, the body's hash, the
// signature (InvalidSignatureException). body_hash: of the body as received. The caller checks that
// the scope's service is the one that will answer.
Result<void> verify(const http::Request& request, const Signature& signature,
                    const Sha256& body_hash, const KeyLookup& find_key, std::string_view region,
                    Instant now);

struct Credentials {
  std::string access_key_id{};
  Secret<std::string> secret{};
  std::string security_token{};  // empty: none
};

// Adds X-Amz-Date and Authorization (and X-Amz-Security-Token). `request` must have its Host header
// and path set. Signs host, content-type and every x-amz-* header.
void sign(http::Request& request, std::string_view body, const Credentials& credentials,
          std::string_view region, std::string_view service, Instant now);

// The canonical request, for tests and fuzzing. kInvalid: a query that cannot be decoded.
Result<std::string> canonical_request(const http::Request& request, const Signature& signature,
                                      std::string_view payload_hash);

}  // namespace hob::aws
