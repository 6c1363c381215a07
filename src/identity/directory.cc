#include "identity/directory.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "identity/keys.h"

namespace hob::identity {

namespace {

constexpr int kAccountTriesMax = 10;  // a number or key that is taken is drawn again
constexpr std::string_view kDigits = "0123456789";
constexpr std::string_view kKeyLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
constexpr std::string_view kSecretLetters =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

bool is_account_id(std::string_view id) {
  return id.size() == 12 && id.find_first_not_of(kDigits) == std::string_view::npos;
}

}  // namespace

std::string root_arn(std::string_view account) {
  return fmt::format("arn:aws:iam::{}:root", account);
}

Directory::Directory(store::Store& store, Executor executor, Clock& clock, Random& random)
    : store_(store),
      clock_(clock),
      random_(random),
      cache_(store, executor, {std::string(kPrefix)},
             [this](const std::string& key, const store::Entry* entry) { changed(key, entry); }) {}

Async<Result<void>> Directory::start() {
  HOB_CO_TRY(const store::Revision revision, co_await ensure_secret());
  cache_.start();
  co_await cache_.reach(revision);
  if (registry_secret_.reveal().empty()) {
    co_return fail(Code::kCorrupt, "{} is damaged; remove it to make a new one",
                   kRegistrySecretKey);
  }
  co_return Result<void>();
}

Async<> Directory::stop() { co_await cache_.stop(); }

Async<Result<store::Revision>> Directory::ensure_secret() {
  const std::string key(kRegistrySecretKey);
  HOB_CO_TRY(const std::optional<store::Entry> entry, co_await store_.get(key));
  if (entry) co_return entry->revision;
  const SigningSecret secret{.key = random_hex(random_, 64), .created_at = clock_.now()};
  store::Transaction transaction{.expect = {{key, store::kAbsent}}, .put = {{key, encode(secret)}}};
  co_return co_await store_.commit(std::move(transaction));
}

void Directory::changed(const std::string& key, const store::Entry* entry) {
  // A record that cannot be read is told of and passed over: the others still count.
  const auto report = [&key](const Error& error) {
    log::error("identity record unreadable", {{"key", key}, {"error", error.message}});
  };
  if (key.starts_with(kAccountsPrefix)) {
    const std::string id = key.substr(kAccountsPrefix.size());
    accounts_.erase(id);
    if (entry == nullptr) return;
    if (auto account = decode_account(entry->value))
      accounts_[id] = std::move(*account);
    else
      report(account.error());
  } else if (key.starts_with(kKeysPrefix)) {
    const std::string id = key.substr(kKeysPrefix.size());
    keys_.erase(id);
    if (entry == nullptr) return;
    if (auto access_key = decode_access_key(entry->value))
      keys_[id] = std::move(*access_key);
    else
      report(access_key.error());
  } else if (key == kRegistrySecretKey && entry != nullptr) {
    if (auto secret = decode_signing_secret(entry->value))
      registry_secret_ = Secret<std::string>(secret->key);
    else
      report(secret.error());
  }
}

AccessKey Directory::root_key(const std::string& account, std::string id,
                              std::string secret) const {
  return AccessKey{.id = std::move(id),
                   .account = account,
                   .secret = std::move(secret),
                   .arn = root_arn(account),
                   .user_id = account,
                   .active = true,
                   .created_at = clock_.now()};
}

Async<Result<void>> Directory::ensure_account(std::string id, std::string name, std::string key_id,
                                              Secret<std::string> secret) {
  if (!is_account_id(id)) co_return fail(Code::kInvalid, "'{}' is no account: twelve digits", id);
  if (key_id.empty() || secret.reveal().empty())
    co_return fail(Code::kInvalid, "an account needs a key");
  HOB_CO_TRY(const std::optional<store::Entry> account, co_await store_.get(account_key(id)));
  HOB_CO_TRY(const std::optional<store::Entry> key, co_await store_.get(access_key_key(key_id)));
  if (key) {
    HOB_CO_TRY(const AccessKey known, decode_access_key(key->value));
    if (known.account != id)
      co_return fail(Code::kConflict, "key {} belongs to account {}", key_id, known.account);
  }
  store::Transaction transaction;
  if (!account) {
    const Account made{.id = id, .name = std::move(name), .created_at = clock_.now()};
    transaction.expect[account_key(id)] = store::kAbsent;
    transaction.put[account_key(id)] = encode(made);
  }
  if (!key) {
    transaction.expect[access_key_key(key_id)] = store::kAbsent;
    transaction.put[access_key_key(key_id)] = encode(root_key(id, key_id, secret.reveal()));
  }
  if (transaction.put.empty()) co_return Result<void>();
  HOB_CO_TRY(const store::Revision revision, co_await store_.commit(std::move(transaction)));
  co_await cache_.reach(revision);
  co_return Result<void>();
}

Async<Result<NewAccount>> Directory::create_account(std::string name) {
  if (name.empty() || name.size() > kAccountNameBytesMax) {
    co_return fail(Code::kInvalid, "an account's name has 1 to {} bytes", kAccountNameBytesMax);
  }
  for (int tries = 0; tries < kAccountTriesMax; ++tries) {
    NewAccount made;
    // Not below 10^11, so that the numbers given at installation (000000000001) stay apart from
    // drawn ones.
    made.account = {
        .id = random_word(random_, 1, kDigits.substr(1)) + random_word(random_, 11, kDigits),
        .name = name,
        .created_at = clock_.now()};
    made.key = root_key(made.account.id, "AKIA" + random_word(random_, 16, kKeyLetters),
                        random_word(random_, 40, kSecretLetters));
    const std::string account = account_key(made.account.id);
    const std::string key = access_key_key(made.key.id);
    store::Transaction transaction{
        .expect = {{account, store::kAbsent}, {key, store::kAbsent}},
        .put = {{account, encode(made.account)}, {key, encode(made.key)}}};
    const Result<store::Revision> revision = co_await store_.commit(std::move(transaction));
    if (revision) {
      co_await cache_.reach(*revision);
      log::info("account created", {{"account", made.account.id}, {"name", name}});
      co_return made;
    }
    if (revision.error().code != Code::kConflict) co_return fail(revision.error());
  }
  co_return fail(Code::kConflict, "no free account number in {} tries", kAccountTriesMax);
}

std::optional<AccessKey> Directory::find_key(std::string_view id) const {
  const auto found = keys_.find(id);
  if (found == keys_.end() || !found->second.active) return std::nullopt;
  return found->second;
}

aws::KeyLookup Directory::key_lookup() const {
  return [this](std::string_view id) -> std::optional<aws::KnownKey> {
    const std::optional<AccessKey> key = find_key(id);
    if (!key) return std::nullopt;
    return aws::KnownKey{.secret = Secret<std::string>(key->secret)};
  };
}

std::vector<Account> Directory::accounts() const {
  std::vector<Account> out;
  for (const auto& [id, account] : accounts_) out.push_back(account);
  return out;
}

RegistryPassword Directory::mint(std::string_view account, std::string_view arn,
                                 RegistryScope scope, Duration life) const {
  const RegistryGrant grant{.account = std::string(account),
                            .arn = std::string(arn),
                            .scope = scope,
                            .expires_at = clock_.now() + life};
  return {.password = sign_grant(registry_secret_, grant), .expires_at = grant.expires_at};
}

RegistryPassword Directory::mint_registry_password(std::string_view account,
                                                   std::string_view arn) const {
  return mint(account, arn, RegistryScope::kPush, kRegistryTokenLife);
}

RegistryPassword Directory::mint_pull_password(std::string_view account, std::string_view arn,
                                               Duration life) const {
  return mint(account, arn, RegistryScope::kPull, life);
}

Result<RegistryGrant> Directory::check_registry_password(std::string_view password) const {
  HOB_TRY(RegistryGrant grant, check_grant(registry_secret_, password, clock_.now()));
  if (!accounts_.contains(grant.account))
    return fail(Code::kDenied, "the registry password's account is gone");
  return grant;
}

}  // namespace hob::identity
