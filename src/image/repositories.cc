#include "image/repositories.h"

#include <algorithm>
#include <set>

#include "aws/ecr/errors.h"
#include "base/log.h"
#include "image/content_digest.h"
#include "image/keys.h"
#include "image/limits.h"
#include "image/manifest.h"
#include "image/reference.h"

namespace hob::image {

namespace ecr = aws::ecr;

namespace {

constexpr size_t kRepositoryIdDigits = 16;
constexpr size_t kRepositoryNameMin = 2;  // ECR's; Docker would take one letter

std::unexpected<Error> repository_not_found(const std::string& account, const std::string& name) {
  return ecr::repository_not_found_exception(fmt::format(
      "The repository with name '{}' does not exist in the registry with id '{}'", name, account));
}

std::unexpected<Error> image_not_found(const Repository& repository, const std::string& reference) {
  return ecr::image_not_found_exception(
      fmt::format("The image with imageId {{imageDigest:'{}', imageTag:'{}'}} does not exist "
                  "within the repository with name '{}' "
                  "in the registry with id '{}'",
                  is_digest(reference) ? reference : "null",
                  is_digest(reference) ? "null" : reference, repository.name, repository.account));
}

// A record that cannot be read is not answered with, nor does it stop the rest.
template <class T>
std::optional<T> readable(const store::Entry& entry, Result<T> decoded) {
  if (decoded) return std::move(*decoded);
  log::error("a record of the registry cannot be read",
             {{"key", entry.key}, {"error", decoded.error().message}});
  return std::nullopt;
}

// Foreign layers stay where their URLs say; nobody pushes them.
bool is_foreign(const Descriptor& layer) {
  return layer.media_type.find("nondistributable") != std::string::npos ||
         layer.media_type.find(".foreign.") != std::string::npos;
}

}  // namespace

Repositories::Repositories(store::Store& store, BlobStore& blobs, const Clock& clock,
                           Random& random)
    : store_(store), blobs_(blobs), clock_(clock), random_(random) {}

Async<Result<Repository>> Repositories::create(std::string account, std::string name,
                                               RepositorySettings settings) {
  if (!is_repository_name(name) || name.size() < kRepositoryNameMin) {
    co_return ecr::invalid_parameter_exception(
        fmt::format("Invalid parameter at 'repositoryName' failed to satisfy constraint: 'must "
                    "satisfy regular expression "
                    "'(?:[a-z0-9]+(?:[._-][a-z0-9]+)*/)*[a-z0-9]+(?:[._-][a-z0-9]+)*''"));
  }
  HOB_CO_TRY(const store::Listing there,
             co_await store_.list(prefix_of(kRepositoriesPrefix, account)));
  if (there.entries.size() >= kRepositoriesMax) {
    co_return ecr::limit_exceeded_exception(
        fmt::format("The registry with id '{}' already has the maximum number of repositories, {}",
                    account, kRepositoriesMax));
  }
  Repository repository{.id = random_hex(random_, kRepositoryIdDigits),
                        .account = account,
                        .name = name,
                        .created_at = clock_.now(),
                        .immutable_tags = settings.immutable_tags,
                        .scan_on_push = settings.scan_on_push,
                        .tags = std::move(settings.tags)};
  const std::string key = repository_key(account, name);
  store::Transaction transaction{.expect = {{key, store::kAbsent}},
                                 .put = {{key, encode(repository)}}};
  const Result<store::Revision> written = co_await store_.commit(std::move(transaction));
  if (!written && written.error().code == Code::kConflict) {
    co_return ecr::repository_already_exists_exception(
        fmt::format("The repository with name '{}' already exists in the registry with id '{}'",
                    name, account));
  }
  if (!written) co_return fail(written.error());
  co_return repository;
}

Async<Result<Repository>> Repositories::get(std::string account, std::string name) {
  HOB_CO_TRY(const std::optional<store::Entry> entry,
             co_await store_.get(repository_key(account, name)));
  if (!entry) co_return repository_not_found(account, name);
  co_return context(decode_repository(entry->value), "{}", entry->key);
}

Async<Result<std::vector<Repository>>> Repositories::list(std::string account) {
  HOB_CO_TRY(const store::Listing listing,
             co_await store_.list(prefix_of(kRepositoriesPrefix, account)));
  std::vector<Repository> repositories;
  for (const store::Entry& entry : listing.entries) {
    auto repository = readable(entry, decode_repository(entry.value));
    if (repository) repositories.push_back(std::move(*repository));
  }
  std::ranges::sort(repositories, {}, &Repository::name);  // keys are in order of the escaped names
  co_return repositories;
}

Async<Result<Repository>> Repositories::update(std::string account, std::string name,
                                               std::function<Result<void>(Repository&)> change) {
  const std::string key = repository_key(account, name);
  for (size_t attempt = 0; attempt < kCommitAttemptsMax; ++attempt) {
    HOB_CO_TRY(const std::optional<store::Entry> entry, co_await store_.get(key));
    if (!entry) co_return repository_not_found(account, name);
    HOB_CO_TRY(Repository repository, context(decode_repository(entry->value), "{}", key));
    HOB_CO_CHECK(change(repository));
    store::Transaction transaction{.expect = {{key, entry->revision}},
                                   .put = {{key, encode_over(repository, entry->value)}}};
    const Result<store::Revision> written = co_await store_.commit(std::move(transaction));
    if (written) co_return repository;
    if (written.error().code != Code::kConflict) co_return fail(written.error());
  }
  co_return fail(Code::kConflict, "others change the repository '{}' all the time", name);
}

Async<Result<Repository>> Repositories::remove(std::string account, std::string name, Force force) {
  const std::string key = repository_key(account, name);
  HOB_CO_TRY(const std::optional<store::Entry> entry, co_await store_.get(key));
  if (!entry) co_return repository_not_found(account, name);
  HOB_CO_TRY(Repository repository, context(decode_repository(entry->value), "{}", key));
  HOB_CO_TRY(const store::Listing images,
             co_await store_.list(prefix_of(kImagesPrefix, account, repository.id)));
  if (force == Force::kNo && !images.entries.empty()) {
    co_return ecr::repository_not_empty_exception(
        fmt::format("The repository with name '{}' in registry with id '{}' cannot be deleted "
                    "because it still contains images",
                    name, account));
  }
  // An image that was put since the listing shows in the repository's revision.
  store::Transaction transaction{.expect = {{key, entry->revision}}, .remove = {key}};
  HOB_CO_TRY([[maybe_unused]] const store::Revision revision,
             co_await store_.commit(std::move(transaction)));
  // From here on the repository is gone; what is left hangs under an id that nobody can name, and
  // collect_garbage() would find it too.
  for (const std::string_view prefix :
       {kTagsPrefix, kImagesPrefix, kReferrersPrefix, kBlobsPrefix}) {
    HOB_CO_TRY(const store::Listing listing,
               co_await store_.list(prefix_of(prefix, account, repository.id)));
    Keys keys;
    for (const store::Entry& orphan : listing.entries) keys[orphan.key] = orphan.revision;
    HOB_CO_CHECK(co_await remove_keys(std::move(keys)));
  }
  co_return repository;
}

Async<Result<void>> Repositories::remove_keys(Keys keys) {
  while (!keys.empty()) {
    store::Transaction transaction;
    while (!keys.empty() && transaction.remove.size() < kRemovalsPerTransaction) {
      const auto first = keys.extract(keys.begin());
      transaction.remove.push_back(first.key());
      transaction.expect.emplace(first.key(), first.mapped());
    }
    const Result<store::Revision> written = co_await store_.commit(std::move(transaction));
    if (written) continue;
    if (written.error().code != Code::kConflict) co_return fail(written.error());
    co_return fail(Code::kUnavailable, "it was changed meanwhile; try again");
  }
  co_return Result<void>();
}

// What the manifest says, once all that it names is found to be there.
Async<Result<Repositories::CheckedManifest>> Repositories::check_manifest(
    const Repository& repository, const NewImage& given) {
  CheckedManifest checked;
  const Result<Manifest> parsed = parse_manifest(given.manifest, given.media_type);
  if (!parsed) {
    co_return ecr::invalid_parameter_exception(
        fmt::format("Invalid parameter at 'ImageManifest' failed to satisfy constraint: '{}'",
                    parsed.error().message));
  }
  checked.image = {.digest = digest_of(given.manifest),
                   .media_type = parsed->media_type,
                   .artifact_type = parsed->artifact_type,
                   .manifest_bytes = given.manifest.size(),
                   .bytes = given.manifest.size(),
                   .pushed_at = clock_.now(),
                   .subject = parsed->subject,
                   .annotations = parsed->annotations};
  Image& image = checked.image;
  if (!given.digest.empty() && given.digest != image.digest) {
    co_return ecr::image_digest_does_not_match_exception(
        fmt::format("The digest '{}' does not match the digest computed by Amazon ECR '{}'",
                    given.digest, image.digest));
  }
  std::vector<Descriptor> blobs;
  if (parsed->config) blobs.push_back(*parsed->config);
  for (const Descriptor& layer : parsed->layers) {
    if (!is_foreign(layer)) blobs.push_back(layer);
  }
  if (!parsed->is_index) image.bytes = 0;
  for (const Descriptor& blob : blobs) {
    const std::string key = blob_key(repository.account, repository.id, blob.digest);
    HOB_CO_TRY(const std::optional<store::Entry> entry, co_await store_.get(key));
    if (!entry) {
      co_return ecr::layers_not_found_exception(
          fmt::format("Layers with digests '[{}]' required for pushing image into repository with "
                      "name '{}' in the registry with "
                      "id '{}' do not exist",
                      blob.digest, repository.name, repository.account));
    }
    HOB_CO_TRY(BlobLink link, context(decode_blob_link(entry->value), "{}", key));
    if (link.bytes != blob.size) {
      co_return ecr::invalid_parameter_exception(
          fmt::format("Invalid parameter at 'ImageManifest' failed to satisfy constraint: '{} has "
                      "{} bytes, not {}'",
                      blob.digest, link.bytes, blob.size));
    }
    checked.links[key] = entry->revision;
    if (link.linked_at < clock_.now() - kBlobIdleMin / 2) {
      link.linked_at = clock_.now();
      checked.renewed_links[key] = encode(link);
    }
    image.blobs.push_back(blob.digest);
    image.bytes += link.bytes;
  }
  for (const Descriptor& child : parsed->manifests) {
    const Result<Image> found = co_await image_of_digest(repository, child.digest);
    if (!found && found.error().aws_code.empty()) co_return fail(found.error());
    if (!found) {
      co_return ecr::referenced_images_not_found_exception(
          fmt::format("Images with digests '[{}]' required for pushing image into repository with "
                      "name '{}' in the registry with "
                      "id '{}' do not exist",
                      child.digest, repository.name, repository.account));
    }
    image.manifests.push_back(child.digest);
  }
  co_return checked;
}

Async<Result<Image>> Repositories::put_image(Repository repository, NewImage given) {
  const BlobStore::Pin pin(blobs_, digest_of(given.manifest));
  bool written_to_disk = false;
  const std::string& account = repository.account;
  const std::string home = repository_key(account, repository.name);
  for (size_t attempt = 0; attempt < kCommitAttemptsMax; ++attempt) {
    HOB_CO_TRY(const std::optional<store::Entry> owner, co_await store_.get(home));
    if (!owner) co_return repository_not_found(account, repository.name);
    HOB_CO_TRY(const Repository now, context(decode_repository(owner->value), "{}", home));
    if (now.id != repository.id) co_return repository_not_found(account, repository.name);
    HOB_CO_TRY(CheckedManifest checked, co_await check_manifest(repository, given));
    const Image& image = checked.image;
    if (!written_to_disk) HOB_CO_CHECK(co_await blobs_.put(image.digest, given.manifest));
    written_to_disk = true;
    const std::string key = image_key(account, repository.id, image.digest);
    HOB_CO_TRY(const std::optional<store::Entry> before, co_await store_.get(key));
    // The links must be as they were found, or collect_garbage() was faster.
    store::Transaction transaction{.expect = std::move(checked.links),
                                   .put = std::move(checked.renewed_links)};
    // Writing the repository's record too gives a deletion at the same time a conflict: either it
    // sees the image, or the image finds no repository.
    transaction.expect[home] = owner->revision;
    transaction.expect[key] = before ? before->revision : store::kAbsent;
    transaction.put[home] = owner->value;
    if (!before) {
      transaction.put[key] = encode(image);
      if (!image.subject.empty()) {
        transaction.put[referrers_prefix(account, repository.id, image.subject) + image.digest] =
            "{}";
      }
    } else if (given.tag.empty() && given.again == NewImage::Again::kRefuse) {
      co_return ecr::image_already_exists_exception(
          fmt::format("Image with digest '{}' already exists in the repository with name '{}' in "
                      "registry with id '{}'",
                      image.digest, repository.name, account));
    }
    if (!given.tag.empty()) {
      HOB_CO_TRY(const std::optional<store::Entry> tag, co_await tag_entry(repository, given.tag));
      const std::string old =
          tag ? decode_tag(tag->value).value_or(TagTarget{}).digest : std::string();
      if (before && old == image.digest) {
        if (given.again == NewImage::Again::kAccept) co_return image;
        co_return ecr::image_already_exists_exception(
            fmt::format("Image with digest '{}' and tag '{}' already exists in the repository with "
                        "name '{}' in registry with id "
                        "'{}'",
                        image.digest, given.tag, repository.name, account));
      }
      if (tag && now.immutable_tags && old != image.digest) {
        co_return ecr::image_tag_already_exists_exception(
            fmt::format("The image tag '{}' already exists in the '{}' repository and cannot be "
                        "overwritten because the tag is "
                        "immutable.",
                        given.tag, repository.name));
      }
      const std::string tagged = tag_key(account, repository.id, given.tag);
      transaction.expect[tagged] = tag ? tag->revision : store::kAbsent;
      transaction.put[tagged] = encode(TagTarget{.digest = image.digest});
    } else if (before) {
      co_return image;  // a push of what is here
    }
    const Result<store::Revision> written = co_await store_.commit(std::move(transaction));
    if (written) co_return image;
    if (written.error().code != Code::kConflict) co_return fail(written.error());
  }
  co_return fail(Code::kConflict, "others write to the repository '{}' all the time",
                 repository.name);
}

Async<Result<std::optional<store::Entry>>> Repositories::tag_entry(const Repository& repository,
                                                                   std::string tag) {
  co_return co_await store_.get(tag_key(repository.account, repository.id, tag));
}

Async<Result<Image>> Repositories::image_of_digest(const Repository& repository,
                                                   std::string digest) {
  const std::string key = image_key(repository.account, repository.id, digest);
  HOB_CO_TRY(const std::optional<store::Entry> entry, co_await store_.get(key));
  if (!entry) co_return image_not_found(repository, digest);
  co_return context(decode_image(entry->value), "{}", key);
}

Async<Result<Image>> Repositories::get_image(Repository repository, std::string reference) {
  if (is_digest(reference)) co_return co_await image_of_digest(repository, reference);
  if (!is_tag(reference)) co_return image_not_found(repository, reference);
  HOB_CO_TRY(const std::optional<store::Entry> entry, co_await tag_entry(repository, reference));
  if (!entry) co_return image_not_found(repository, reference);
  HOB_CO_TRY(const TagTarget target, context(decode_tag(entry->value), "{}", entry->key));
  co_return co_await image_of_digest(repository, target.digest);
}

Async<Result<std::string>> Repositories::read_manifest(const Image& image) {
  co_return co_await blobs_.read(image.digest, kManifestBytesMax);
}

Async<Result<std::vector<std::pair<std::string, std::string>>>> Repositories::tags(
    Repository repository) {
  HOB_CO_TRY(const store::Listing listing,
             co_await store_.list(prefix_of(kTagsPrefix, repository.account, repository.id)));
  std::vector<std::pair<std::string, std::string>> tags;
  for (const store::Entry& entry : listing.entries) {
    const auto target = readable(entry, decode_tag(entry.value));
    if (target) tags.emplace_back(last_part(entry.key), target->digest);
  }
  co_return tags;
}

Async<Result<std::vector<TaggedImage>>> Repositories::images(Repository repository) {
  HOB_CO_TRY(const store::Listing listing,
             co_await store_.list(prefix_of(kImagesPrefix, repository.account, repository.id)));
  HOB_CO_TRY(const auto tagged, co_await tags(repository));
  std::map<std::string, std::vector<std::string>> tags_of;
  for (const auto& [tag, digest] : tagged) tags_of[digest].push_back(tag);
  std::vector<TaggedImage> images;
  for (const store::Entry& entry : listing.entries) {
    auto image = readable(entry, decode_image(entry.value));
    if (!image) continue;
    std::vector<std::string> its_tags = tags_of[image->digest];
    images.push_back({.image = std::move(*image), .tags = std::move(its_tags)});
  }
  co_return images;
}

// Writing the repository's record again, as it is, makes a removal and a push exclude each other: a
// manifest that names what is removed here was either seen, or is refused.
Async<Result<void>> Repositories::add_guard(store::Transaction& transaction,
                                            const Repository& repository) {
  const std::string home = repository_key(repository.account, repository.name);
  HOB_CO_TRY(const std::optional<store::Entry> owner, co_await store_.get(home));
  if (!owner) co_return repository_not_found(repository.account, repository.name);
  transaction.expect[home] = owner->revision;
  transaction.put[home] = owner->value;
  co_return Result<void>();
}

Async<Result<void>> Repositories::remove_image(Repository repository, std::string digest) {
  for (int tries = 0; tries < kRemovalTriesMax; ++tries) {
    bool overtaken = false;
    Result<void> removed = co_await try_remove_image(repository, digest, overtaken);
    if (!overtaken) co_return removed;
  }
  co_return fail(Code::kUnavailable, "others change the repository '{}' all the time",
                 repository.name);
}

Async<Result<void>> Repositories::try_remove_image(const Repository& repository,
                                                   const std::string& digest, bool& overtaken) {
  store::Transaction transaction;
  HOB_CO_CHECK(co_await add_guard(transaction, repository));
  const std::string key = image_key(repository.account, repository.id, digest);
  HOB_CO_TRY(const std::optional<store::Entry> entry, co_await store_.get(key));
  if (!entry) co_return image_not_found(repository, digest);
  HOB_CO_TRY(const auto all, co_await images(repository));
  for (const TaggedImage& other : all) {
    if (std::ranges::find(other.image.manifests, digest) != other.image.manifests.end()) {
      co_return fail(Code::kConflict, "Requested image referenced by manifest list: [{}]",
                     other.image.digest);
    }
  }
  Keys keys{{key, entry->revision}};
  HOB_CO_TRY(const store::Listing tagged,
             co_await store_.list(prefix_of(kTagsPrefix, repository.account, repository.id)));
  for (const store::Entry& tag : tagged.entries) {
    if (decode_tag(tag.value).value_or(TagTarget{}).digest == digest) keys[tag.key] = tag.revision;
  }
  const std::string subject = decode_image(entry->value).value_or(Image{}).subject;
  if (!subject.empty()) {
    const std::string reference =
        referrers_prefix(repository.account, repository.id, subject) + digest;
    HOB_CO_TRY(const std::optional<store::Entry> found, co_await store_.get(reference));
    if (found) keys[reference] = found->revision;
  }
  if (keys.size() > kRemovalsPerTransaction)
    co_return fail(Code::kLimit, "the image has too many tags: remove some of them first");
  for (const auto& [dead, revision] : keys) {
    transaction.expect[dead] = revision;
    transaction.remove.push_back(dead);
  }
  const Result<store::Revision> written = co_await store_.commit(std::move(transaction));
  overtaken = !written && written.error().code == Code::kConflict;
  HOB_CO_CHECK(written);
  co_return Result<void>();
}

Async<Result<std::string>> Repositories::remove_tag(Repository repository, std::string tag,
                                                    LastTag last) {
  HOB_CO_TRY(const std::optional<store::Entry> entry, co_await tag_entry(repository, tag));
  if (!entry) co_return image_not_found(repository, tag);
  HOB_CO_TRY(const TagTarget target, context(decode_tag(entry->value), "{}", entry->key));
  HOB_CO_TRY(const auto all, co_await tags(repository));
  const auto others =
      std::ranges::count_if(all, [&](const auto& other) { return other.second == target.digest; });
  if (last == LastTag::kWithImage && others <= 1) {
    HOB_CO_CHECK(co_await remove_image(repository, target.digest));
    co_return target.digest;
  }
  store::Transaction transaction{.expect = {{entry->key, entry->revision}}, .remove = {entry->key}};
  HOB_CO_TRY([[maybe_unused]] const store::Revision revision,
             co_await store_.commit(std::move(transaction)));
  co_return target.digest;
}

Async<Result<std::vector<Image>>> Repositories::referrers(Repository repository,
                                                          std::string digest) {
  HOB_CO_TRY(const store::Listing listing,
             co_await store_.list(referrers_prefix(repository.account, repository.id, digest)));
  std::vector<Image> images;
  for (const store::Entry& entry : listing.entries) {
    Result<Image> image = co_await image_of_digest(repository, last_part(entry.key));
    if (image) images.push_back(std::move(*image));
  }
  co_return images;
}

Async<Result<std::optional<uint64_t>>> Repositories::blob_size(Repository repository,
                                                               std::string digest) {
  const std::string key = blob_key(repository.account, repository.id, digest);
  HOB_CO_TRY(const std::optional<store::Entry> entry, co_await store_.get(key));
  if (!entry) co_return std::nullopt;
  HOB_CO_TRY(const BlobLink link, context(decode_blob_link(entry->value), "{}", key));
  co_return link.bytes;
}

Async<Result<void>> Repositories::link_blob(Repository repository, std::string digest,
                                            uint64_t bytes) {
  store::Transaction transaction;
  transaction.put[blob_key(repository.account, repository.id, digest)] =
      encode(BlobLink{.bytes = bytes, .linked_at = clock_.now()});
  HOB_CO_TRY([[maybe_unused]] const store::Revision revision,
             co_await store_.commit(std::move(transaction)));
  co_return Result<void>();
}

Async<Result<bool>> Repositories::unlink_blob(Repository repository, std::string digest) {
  for (int tries = 0; tries < kRemovalTriesMax; ++tries) {
    bool overtaken = false;
    Result<bool> unlinked = co_await try_unlink_blob(repository, digest, overtaken);
    if (!overtaken) co_return unlinked;
  }
  co_return fail(Code::kUnavailable, "others change the repository '{}' all the time",
                 repository.name);
}

Async<Result<bool>> Repositories::try_unlink_blob(const Repository& repository,
                                                  const std::string& digest, bool& overtaken) {
  store::Transaction transaction;
  HOB_CO_CHECK(co_await add_guard(transaction, repository));
  const std::string key = blob_key(repository.account, repository.id, digest);
  HOB_CO_TRY(const std::optional<store::Entry> entry, co_await store_.get(key));
  if (!entry) co_return false;
  HOB_CO_TRY(const auto all, co_await images(repository));
  for (const TaggedImage& tagged : all) {
    const auto& needed = tagged.image.blobs;
    if (std::ranges::find(needed, digest) != needed.end()) {
      co_return fail(Code::kConflict, "the image {} needs this blob", tagged.image.digest);
    }
  }
  transaction.expect[key] = entry->revision;
  transaction.remove.push_back(key);
  const Result<store::Revision> written = co_await store_.commit(std::move(transaction));
  overtaken = !written && written.error().code == Code::kConflict;
  HOB_CO_CHECK(written);
  co_return true;
}

Async<Result<size_t>> Repositories::collect_garbage() {
  blobs_.begin_collection();
  std::set<std::string> live;  // "<account>/<id>/"
  HOB_CO_TRY(const store::Listing owners, co_await store_.list(std::string(kRepositoriesPrefix)));
  for (const store::Entry& entry : owners.entries) {
    // A repository that cannot be read keeps everything: nothing is removed on a guess.
    HOB_CO_TRY(const Repository repository,
               context(decode_repository(entry.value), "{}", entry.key));
    live.insert(repository.account + "/" + repository.id + "/");
  }
  Keys dead;
  const auto home_of = [](std::string_view prefix, std::string_view key) {
    key.remove_prefix(prefix.size());
    const size_t account_end = key.find('/');
    const size_t id_end = key.find('/', account_end + 1);
    return std::string(key.substr(0, id_end + 1));
  };
  std::set<std::string> in_use;  // digests of contents
  std::set<std::string> listed;  // home + digest of blobs that an image lists
  HOB_CO_TRY(const store::Listing images, co_await store_.list(std::string(kImagesPrefix)));
  for (const store::Entry& entry : images.entries) {
    const std::string home = home_of(kImagesPrefix, entry.key);
    if (!live.contains(home)) {
      dead[entry.key] = entry.revision;
      continue;
    }
    HOB_CO_TRY(const Image image, context(decode_image(entry.value), "{}", entry.key));
    in_use.insert(image.digest);
    for (const std::string& blob : image.blobs) listed.insert(home + blob);
  }
  const Instant old = clock_.now() - kBlobIdleMin;
  HOB_CO_TRY(const store::Listing links, co_await store_.list(std::string(kBlobsPrefix)));
  for (const store::Entry& entry : links.entries) {
    const std::string home = home_of(kBlobsPrefix, entry.key);
    const std::string digest = last_part(entry.key);
    const Result<BlobLink> link = decode_blob_link(entry.value);
    const bool idle = !listed.contains(home + digest) && link && link->linked_at < old;
    if (!live.contains(home) || idle) {
      dead[entry.key] = entry.revision;
    } else {
      in_use.insert(digest);
    }
  }
  for (const std::string_view prefix : {kTagsPrefix, kReferrersPrefix}) {
    HOB_CO_TRY(const store::Listing listing, co_await store_.list(std::string(prefix)));
    for (const store::Entry& entry : listing.entries) {
      if (!live.contains(home_of(prefix, entry.key))) dead[entry.key] = entry.revision;
    }
  }
  HOB_CO_CHECK(co_await remove_keys(std::move(dead)));
  co_return co_await blobs_.collect(std::move(in_use));
}

}  // namespace hob::image
