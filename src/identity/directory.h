// Accounts and access keys, kept current in memory from the store; registry passwords.
//
// Belongs to control's loop. start() before anything else, stop() before the store goes.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "aws/sigv4.h"
#include "base/async.h"
#include "base/ids.h"
#include "base/log.h"
#include "base/result.h"
#include "base/time.h"
#include "identity/records.h"
#include "identity/registry_token.h"
#include "store/cache.h"
#include "store/store.h"

namespace hob::identity {

inline constexpr size_t kAccountNameBytesMax = 128;

struct NewAccount {
  Account account{};
  AccessKey key{};  // the root principal's first
};

struct RegistryPassword {
  std::string password{};
  Instant expires_at{};
};

class Directory {
 public:
  Directory(store::Store& store, Executor executor, Clock& clock, Random& random);

  // Loads everything and makes the signing secret at the first start. Returns once all is in
  // memory.
  Async<Result<void>> start();
  Async<> stop();

  // Makes the account and its root key unless they are there; a key that is there is left as it is.
  // For the first account, whose keys the supervisor makes. kConflict: the key belongs to another
  // account.
  Async<Result<void>> ensure_account(std::string id, std::string name, std::string key_id,
                                     Secret<std::string> secret);
  // A fresh account number with root keys. kInvalid: a bad name.
  Async<Result<NewAccount>> create_account(std::string name);

  // nullopt: no such key, or not active.
  std::optional<AccessKey> find_key(std::string_view id) const;
  // For aws::verify. `this` must outlive it.
  aws::KeyLookup key_lookup() const;
  std::vector<Account> accounts() const;  // in order of id

  // ECR's GetAuthorizationToken: pull and push, 12 hours.
  RegistryPassword mint_registry_password(std::string_view account, std::string_view arn) const;
  // For hosts: pull alone.
  RegistryPassword mint_pull_password(std::string_view account, std::string_view arn,
                                      Duration life) const;
  // kDenied: not one of ours, expired, or its account is gone.
  Result<RegistryGrant> check_registry_password(std::string_view password) const;

 private:
  RegistryPassword mint(std::string_view account, std::string_view arn, RegistryScope scope,
                        Duration life) const;
  Async<Result<store::Revision>> ensure_secret();
  void changed(const std::string& key, const store::Entry* entry);
  AccessKey root_key(const std::string& account, std::string id, std::string secret) const;

  store::Store& store_;
  Clock& clock_;
  Random& random_;
  std::map<std::string, Account, std::less<>> accounts_;
  std::map<std::string, AccessKey, std::less<>> keys_;
  Secret<std::string> registry_secret_;
  store::Cache cache_;
};

// The ARN of an account's root principal.
std::string root_arn(std::string_view account);

}  // namespace hob::identity
