// What identity stores. Keys are in identity/keys.h.
#pragma once

#include <boost/describe.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/time.h"

namespace hob::identity {

struct Account {
  std::string id{};    // twelve digits
  std::string name{};  // for people
  Instant created_at{};
};
BOOST_DESCRIBE_STRUCT(Account, (), (id, name, created_at))

struct AccessKey {
  std::string id{};  // "AKIA" and 16 letters or digits
  std::string account{};
  std::string secret{};   // as it is: SigV4 needs it, and the store's file is root's alone
  std::string arn{};      // of the principal it belongs to
  std::string user_id{};  // of that principal
  bool active = true;
  Instant created_at{};
};
BOOST_DESCRIBE_STRUCT(AccessKey, (), (id, account, secret, arn, user_id, active, created_at))

struct SigningSecret {
  std::string key{};  // hex
  Instant created_at{};
};
BOOST_DESCRIBE_STRUCT(SigningSecret, (), (key, created_at))

std::string encode(const Account& account);
std::string encode(const AccessKey& key);
std::string encode(const SigningSecret& secret);
Result<Account> decode_account(std::string_view json);
Result<AccessKey> decode_access_key(std::string_view json);
Result<SigningSecret> decode_signing_secret(std::string_view json);

}  // namespace hob::identity
