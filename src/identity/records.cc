#include "identity/records.h"

#include "base/record.h"

namespace hob::identity {

std::string encode(const Account& account) { return record::encode(account); }
std::string encode(const AccessKey& key) { return record::encode(key); }
std::string encode(const SigningSecret& secret) { return record::encode(secret); }
Result<Account> decode_account(std::string_view json) { return record::decode<Account>(json); }
Result<AccessKey> decode_access_key(std::string_view json) {
  return record::decode<AccessKey>(json);
}
Result<SigningSecret> decode_signing_secret(std::string_view json) {
  return record::decode<SigningSecret>(json);
}

}  // namespace hob::identity
