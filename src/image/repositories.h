// What a registry holds, whoever asks: the distribution API (registry.h) and ECR's (ecr.h) both go
// through here.
//
// Records are in the store, contents in the blob store; what is answered with success is durable in
// both. Errors are ECR's, by its generated factories, with its texts; failures of ours have no
// aws_code. Belongs to control's loop.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/async.h"
#include "base/ids.h"
#include "base/result.h"
#include "base/time.h"
#include "image/blob_store.h"
#include "image/records.h"
#include "store/store.h"

namespace hob::image {

// A removal expects what it removes, and both count.
inline constexpr size_t kRemovalsPerTransaction = store::kTransactionKeysMax / 2 - 1;
inline constexpr int kRemovalTriesMax = 10;  // when pushes come in between

inline constexpr size_t kRepositoriesMax = 10'000;  // of an account; ECR's quota
inline constexpr size_t kResourceTagsMax = 50;      // of a repository
inline constexpr size_t kCommitAttemptsMax = 8;     // against others who write the same records

struct RepositorySettings {
  bool immutable_tags = false;
  bool scan_on_push = false;
  std::map<std::string, std::string> tags{};
};

struct NewImage {
  std::string manifest{};
  std::string media_type{};  // empty: as the manifest itself says
  std::string tag{};         // empty: none
  std::string digest{};      // which it must have; empty: any
  // Same image and tag again: an error in ECR's PutImage, nothing in a push.
  enum class Again { kRefuse, kAccept } again = Again::kAccept;
};

struct TaggedImage {
  Image image{};
  std::vector<std::string> tags{};  // in order
};

class Repositories {
 public:
  // All must outlive it.
  Repositories(store::Store& store, BlobStore& blobs, const Clock& clock, Random& random);

  // RepositoryAlreadyExistsException, LimitExceededException, InvalidParameterException (the name).
  Async<Result<Repository>> create(std::string account, std::string name,
                                   RepositorySettings settings);
  // RepositoryNotFoundException.
  Async<Result<Repository>> get(std::string account, std::string name);
  // In order of name.
  Async<Result<std::vector<Repository>>> list(std::string account);
  // Reads, changes, writes; `change` may be called again after a conflict.
  Async<Result<Repository>> update(std::string account, std::string name,
                                   std::function<Result<void>(Repository&)> change);
  enum class Force { kNo, kYes };
  // RepositoryNotFoundException, RepositoryNotEmptyException.
  Async<Result<Repository>> remove(std::string account, std::string name, Force force);

  // Checks the manifest, that all it names is in the repository, and stores it.
  // ImageTagAlreadyExistsException (tags are immutable), ImageAlreadyExistsException,
  // ImageDigestDoesNotMatchException, LayersNotFoundException, ReferencedImagesNotFoundException,
  // InvalidParameterException (no manifest), LimitExceededException.
  Async<Result<Image>> put_image(Repository repository, NewImage image);
  // By tag or digest. ImageNotFoundException.
  Async<Result<Image>> get_image(Repository repository, std::string reference);
  // The manifest itself.
  Async<Result<std::string>> read_manifest(const Image& image);
  // In order of digest.
  Async<Result<std::vector<TaggedImage>>> images(Repository repository);
  // In order of tag, with their digests.
  Async<Result<std::vector<std::pair<std::string, std::string>>>> tags(Repository repository);
  // With all its tags. ImageNotFoundException; kConflict without an aws_code: an index of the
  // repository lists it.
  Async<Result<void>> remove_image(Repository repository, std::string digest);
  // The tag alone; with kWithImage the image too, if that was its last tag (ECR's rule). Its digest
  // is returned.
  enum class LastTag { kKeepImage, kWithImage };
  Async<Result<std::string>> remove_tag(Repository repository, std::string tag, LastTag last);
  // Images whose subject is `digest`.
  Async<Result<std::vector<Image>>> referrers(Repository repository, std::string digest);

  // Blobs are seen only where they were pushed or mounted. nullopt: not in this repository.
  Async<Result<std::optional<uint64_t>>> blob_size(Repository repository, std::string digest);
  // `digest` must be whole in the blob store, and pinned.
  Async<Result<void>> link_blob(Repository repository, std::string digest, uint64_t bytes);
  // False: it was not there. kConflict without an aws_code: an image needs it.
  Async<Result<bool>> unlink_blob(Repository repository, std::string digest);

  // Forgets what no image needs any more: records of removed repositories, links of blobs that are
  // older than kBlobIdleMin and that no image lists, then the blobs themselves. Returns how many
  // blobs and uploads went.
  Async<Result<size_t>> collect_garbage();

  BlobStore& blobs() { return blobs_; }

 private:
  Async<Result<Image>> image_of_digest(const Repository& repository, std::string digest);
  Async<Result<std::optional<store::Entry>>> tag_entry(const Repository& repository,
                                                       std::string tag);
  struct CheckedManifest {
    Image image{};
    std::map<std::string, store::Revision> links{};  // of its blobs, as they were found
    std::map<std::string, std::string>
        renewed_links{};  // those about to be old enough for collection
  };
  Async<Result<CheckedManifest>> check_manifest(const Repository& repository,
                                                const NewImage& given);
  using Keys = std::map<std::string, store::Revision>;
  // kUnavailable: one of them was written meanwhile.
  Async<Result<void>> remove_keys(Keys keys);
  Async<Result<void>> add_guard(store::Transaction& transaction, const Repository& repository);
  // `overtaken`: somebody changed the repository meanwhile; try again.
  Async<Result<void>> try_remove_image(const Repository& repository, const std::string& digest,
                                       bool& overtaken);
  Async<Result<bool>> try_unlink_blob(const Repository& repository, const std::string& digest,
                                      bool& overtaken);

  store::Store& store_;
  BlobStore& blobs_;
  const Clock& clock_;
  Random& random_;
};

}  // namespace hob::image
