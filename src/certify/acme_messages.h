// What an ACME server answers (RFC 8555 section 7), parsed once into what can only be valid. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hob::certify {

inline constexpr size_t kAcmeTokenBytesMax = 128;
inline constexpr size_t kAcmeAuthorizationsMax = 100;  // of an order
inline constexpr size_t kAcmeChallengesMax = 20;       // of an authorization
inline constexpr size_t kAcmeDetailBytesMax = 500;     // of what is passed on to people

struct AcmeDirectory {
  std::string new_nonce{};
  std::string new_account{};
  std::string new_order{};
  bool external_account_required = false;
};

// An error as the server describes it (RFC 7807).
struct AcmeProblem {
  std::string type{};    // without "urn:ietf:params:acme:error:"; empty: another kind
  std::string detail{};  // printable, for people
};

struct AcmeOrder {
  std::string status{};  // pending, ready, processing, valid, invalid
  std::vector<std::string> authorizations{};
  std::string finalize{};
  std::string certificate{};  // once valid
  AcmeProblem error{};
};

struct AcmeQuestion {
  std::string type{};  // "http-01"
  std::string url{};
  std::string token{};
  std::string status{};  // pending, processing, valid, invalid
  AcmeProblem error{};
};

struct AcmeAuthorization {
  std::string status{};     // pending, valid, invalid, deactivated, expired, revoked
  std::string host_name{};  // lower case
  std::vector<AcmeQuestion> questions{};
};

// URLs in them have the scheme of `base`, the URL they came from, where that is https.
// kInvalid: it is no such answer.
Result<AcmeDirectory> parse_acme_directory(std::string_view json, std::string_view base);
Result<AcmeOrder> parse_acme_order(std::string_view json, std::string_view base);
Result<AcmeAuthorization> parse_acme_authorization(std::string_view json, std::string_view base);
// Whatever was answered: words for people, at least.
AcmeProblem parse_acme_problem(std::string_view json);

}  // namespace hob::certify
