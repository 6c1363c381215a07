#include "daemon/runner_images.h"

#include "base/log.h"
#include "image/keys.h"
#include "image/records.h"
#include "image/reference.h"

namespace hob::daemon {
namespace {

// A pull of a large image by a slow host ends within it.
constexpr Duration kPullPasswordLife = std::chrono::hours(1);

}  // namespace

RunnerImages::RunnerImages(store::Store& store, const Executor& executor, image::Catalog& catalog,
                           const identity::Directory& directory, uint16_t api_port,
                           std::string region)
    : catalog_(catalog),
      directory_(directory),
      api_port_(api_port),
      region_(std::move(region)),
      address_("127.0.0.1:" + std::to_string(api_port)),
      logins_(store, executor, {std::string(image::kLoginsPrefix)}) {}

Async<> RunnerImages::start() {
  logins_.start();
  co_await logins_.listed();
}

Async<> RunnerImages::stop() { co_await logins_.stop(); }

Result<void> RunnerImages::check(const std::string& identifier) const {
  HOB_CHECK(image::parse_reference(identifier));
  return {};
}

Result<std::string> RunnerImages::at_digest(const std::string& identifier,
                                            const std::string& digest) const {
  HOB_TRY(image::ImageReference reference, image::parse_reference(identifier));
  reference.tag.clear();
  reference.digest = digest;
  return image::format_reference(reference);
}

bool RunnerImages::is_ours(const std::string& identifier) const {
  const Result<image::ImageReference> reference = image::parse_reference(identifier);
  return reference && image::match_own_registry(reference->registry, api_port_).ours;
}

Async<Result<runner::ResolvedImage>> RunnerImages::resolve(std::string account,
                                                           std::string identifier) {
  HOB_CO_TRY(const image::ImageReference reference, image::parse_reference(identifier));
  const image::OwnRegistry ours = image::match_own_registry(reference.registry, api_port_);
  runner::ResolvedImage resolved;
  resolved.source.repository = reference.repository;
  if (!ours.ours) {
    resolved.source.registry = reference.host();
    // As Docker does: a registry of this machine has no certificate, and nobody is on the way to
    // it.
    resolved.source.plain_http = image::is_loopback_registry(reference.registry);
    resolved.source.reference = reference.reference();
    resolved.digest = reference.digest;
    co_return resolved;
  }
  if (!ours.account.empty() && (ours.account != account || ours.region != region_)) {
    co_return fail(Code::kNotFound, "{} belongs to another account or region", identifier);
  }
  HOB_CO_TRY(resolved.digest,
             co_await catalog_.resolve(account, reference.repository, reference.reference()));
  resolved.source.registry = address_;
  resolved.source.plain_http = true;
  resolved.source.reference = resolved.digest;
  co_return resolved;
}

Async<Result<void>> RunnerImages::changed() {
  if (!tags_) {
    HOB_CO_TRY(tags_, co_await catalog_.watch_tags());
  }
  Result<std::vector<store::Change>> changes = co_await tags_->next();
  if (!changes) {
    // Too far behind: something has changed, and a new watch goes on from now.
    tags_.reset();
    if (changes.error().code != Code::kConflict) co_return fail(std::move(changes).error());
  }
  co_return Result<void>{};
}

link::ImageSource RunnerImages::with_credentials(const std::string& account,
                                                 link::ImageSource source) const {
  if (source.registry == address_) {
    source.username = "AWS";
    source.password =
        directory_.mint_pull_password(account, identity::root_arn(account), kPullPasswordLife)
            .password;
    return source;
  }
  const store::Entry* entry = logins_.find(image::login_key(account, source.registry));
  if (entry == nullptr) return source;
  Result<image::LoginRecord> login = image::decode_login(entry->value);
  if (!login) {
    log::error("a registry login cannot be read",
               {{"key", entry->key}, {"error", login.error().message}});
    return source;
  }
  source.username = login->username;
  source.password = login->password;
  return source;
}

}  // namespace hob::daemon
