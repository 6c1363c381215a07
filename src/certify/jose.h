// How an ACME client signs what it asks (RFC 7515 to 7518, RFC 7638): ES256 over a P-256 key.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

struct evp_pkey_st;

namespace hob::certify {

// Without padding, for URLs (RFC 4648 section 5).
std::string base64url(std::string_view bytes);
// nullopt: not that.
std::optional<std::string> unbase64url(std::string_view text);

class AccountKey {
 public:
  // `pem`: a P-256 private key. kInvalid: it is not.
  static Result<AccountKey> read(std::string_view pem);
  // {"crv":"P-256","kty":"EC","x":…,"y":…}, as it is hashed.
  const std::string& jwk() const { return jwk_; }
  // What an authority knows the key by: with "TOKEN." before it, the answer to its question.
  std::string thumbprint() const;
  // A flattened JWS. `header`: the protected header as JSON.
  Result<std::string> sign(std::string_view header, std::string_view payload) const;

 private:
  std::shared_ptr<evp_pkey_st> key_;
  std::string jwk_;
};

// The account key, signed with a key that the authority gave for an account of its own (RFC 8555
// section 7.3.4). `mac_key`: as raw bytes.
std::string sign_external_binding(const std::string& jwk, const std::string& key_id,
                                  std::string_view mac_key, const std::string& url);

}  // namespace hob::certify
