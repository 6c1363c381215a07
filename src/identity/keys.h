// Keys of identity's records.
#pragma once

#include <string>
#include <string_view>

namespace hob::identity {

inline constexpr std::string_view kPrefix = "/identity/";
inline constexpr std::string_view kAccountsPrefix = "/identity/accounts/";
inline constexpr std::string_view kKeysPrefix = "/identity/keys/";
inline constexpr std::string_view kRegistrySecretKey = "/identity/secrets/registry";

inline std::string account_key(std::string_view account) {
  return std::string(kAccountsPrefix).append(account);
}
inline std::string access_key_key(std::string_view id) {
  return std::string(kKeysPrefix).append(id);
}

}  // namespace hob::identity
