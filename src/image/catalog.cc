#include "image/catalog.h"

#include "image/content_digest.h"
#include "image/keys.h"
#include "image/reference.h"

namespace hob::image {

Async<Result<std::string>> Catalog::resolve(std::string account, std::string repository,
                                            std::string reference) {
  HOB_CO_TRY(const auto home, co_await store_.get(repository_key(account, repository)));
  if (!home) co_return fail(Code::kNotFound, "there is no repository '{}'", repository);
  HOB_CO_TRY(const Repository record,
             context(decode_repository(home->value), "reading {}", home->key));
  std::string digest = reference;
  if (!is_digest(reference)) {
    if (!is_tag(reference))
      co_return fail(Code::kInvalid, "'{}' is neither a tag nor a digest", reference);
    HOB_CO_TRY(const auto tag, co_await store_.get(tag_key(account, record.id, reference)));
    if (!tag)
      co_return fail(Code::kNotFound, "repository '{}' has no image with the tag '{}'", repository,
                     reference);
    HOB_CO_TRY(const TagTarget target, context(decode_tag(tag->value), "reading {}", tag->key));
    digest = target.digest;
  }
  HOB_CO_TRY(const auto image, co_await store_.get(image_key(account, record.id, digest)));
  if (!image)
    co_return fail(Code::kNotFound, "repository '{}' has no image {}", repository, digest);
  co_return digest;
}

Async<Result<std::unique_ptr<store::Watch>>> Catalog::watch_tags() {
  HOB_CO_TRY(const store::Listing now, co_await store_.list(std::string(kTagsPrefix)));
  co_return store_.watch(std::string(kTagsPrefix), now.revision);
}

Async<Result<void>> Catalog::put_login(std::string account, LoginRecord login) {
  store::Transaction transaction{.put = {{login_key(account, login.registry), encode(login)}}};
  HOB_CO_TRY([[maybe_unused]] const store::Revision revision,
             co_await store_.commit(std::move(transaction)));
  co_return Result<void>{};
}

Async<Result<void>> Catalog::remove_login(std::string account, std::string registry) {
  const std::string key = login_key(account, registry);
  HOB_CO_TRY(const auto found, co_await store_.get(key));
  if (!found) co_return fail(Code::kNotFound, "not logged in to {}", registry);
  store::Transaction transaction{.remove = {key}};
  HOB_CO_TRY([[maybe_unused]] const store::Revision revision,
             co_await store_.commit(std::move(transaction)));
  co_return Result<void>{};
}

Async<Result<std::optional<LoginRecord>>> Catalog::login(std::string account,
                                                         std::string registry) {
  HOB_CO_TRY(const auto found, co_await store_.get(login_key(account, registry)));
  if (!found) co_return std::optional<LoginRecord>{};
  HOB_CO_TRY(LoginRecord record, context(decode_login(found->value), "reading {}", found->key));
  co_return std::optional<LoginRecord>(std::move(record));
}

Async<Result<std::vector<LoginRecord>>> Catalog::logins(std::string account) {
  HOB_CO_TRY(const store::Listing found, co_await store_.list(prefix_of(kLoginsPrefix, account)));
  std::vector<LoginRecord> records;
  for (const store::Entry& entry : found.entries) {
    HOB_CO_TRY(LoginRecord record, context(decode_login(entry.value), "reading {}", entry.key));
    records.push_back(std::move(record));
  }
  co_return records;
}

}  // namespace hob::image
