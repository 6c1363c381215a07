// The registry's blobs on disk, by digest, and the uploads that become blobs.
//
// blobs/sha256/<hex> is whole and durable once it is there. uploads/<id> grows by appends and
// survives kill -9: its length is how far it got. Belongs to one loop; files are touched on the
// pool.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/async.h"
#include "base/digest.h"
#include "base/file.h"
#include "base/ids.h"
#include "base/result.h"
#include "base/time.h"

namespace hob::image {

inline constexpr size_t kUploadsMax = 1'000;               // unfinished ones; beyond: kLimit
inline constexpr Duration kUploadIdleMax{24 * 3'600'000};  // then it is forgotten
inline constexpr Duration kBlobIdleMin{
    24 * 3'600'000};  // an unreferenced blob stays this long: a push may be on its way

struct Upload {
  std::string id{};
  std::string account{};
  std::string repository{};
  uint64_t size = 0;
  uint64_t hashed =
      0;  // how much `hasher` has seen; after a restart less than size: then all is read again
  Sha256Hasher hasher{};
  bool busy = false;
};

class BlobStore {
 public:
  // The pool must outlive the store.
  BlobStore(std::filesystem::path directory, BlockingPool& pool);
  // Call first: makes the directories, finds the unfinished uploads.
  Async<Result<void>> open();

  std::filesystem::path path(const std::string& digest) const;
  // nullopt: there is no such blob.
  Async<Result<std::optional<uint64_t>>> size(std::string digest);
  // The whole of a small blob. kNotFound; kLimit: over `bytes_max`.
  Async<Result<std::string>> read(std::string digest, size_t bytes_max);
  // Durable when it returns.
  Async<Result<void>> put(std::string digest, std::string content);

  // While held, the blob is not collected: from before it is looked for until it is linked.
  class Pin {
   public:
    Pin(BlobStore& store, std::string digest);
    ~Pin();
    Pin(const Pin&) = delete;
    Pin& operator=(const Pin&) = delete;

   private:
    BlobStore& store_;
    std::string digest_;
  };

  // Exclusive use of an upload for one request.
  class UploadLease {
   public:
    explicit UploadLease(std::shared_ptr<Upload> upload) : upload_(std::move(upload)) {
      upload_->busy = true;
    }
    ~UploadLease() {
      if (upload_) upload_->busy = false;
    }
    UploadLease(UploadLease&&) = default;
    UploadLease& operator=(UploadLease&&) = delete;
    const Upload& operator*() const { return *upload_; }
    const Upload* operator->() const { return upload_.get(); }

   private:
    friend class BlobStore;
    std::shared_ptr<Upload> upload_;
  };
  // kLimit: too many.
  Async<Result<UploadLease>> begin_upload(std::string account, std::string repository);
  // kNotFound: there is none of that id in that repository. kConflict: another request is at it.
  Result<UploadLease> lease_upload(const std::string& account, const std::string& repository,
                                   const std::string& id);
  // kLimit: over kBlobBytesMax. kUnavailable: the disk; what was there before is kept, nothing of
  // this piece.
  Async<Result<void>> append(UploadLease& upload, std::string piece);
  // Makes it the blob `digest`, durably. kInvalid: its content has another digest; the upload is
  // gone.
  Async<Result<void>> finish(UploadLease upload, std::string digest);
  Async<Result<void>> cancel(UploadLease upload);

  // Removes blobs that `in_use` (asked after begin_collection()) does not hold, that are not
  // pinned, were not pinned since begin_collection(), and are older than kBlobIdleMin; and uploads
  // that are idle for kUploadIdleMax. Returns the number.
  void begin_collection() { touched_.clear(); }
  Async<Result<size_t>> collect(std::set<std::string> in_use);

 private:
  std::filesystem::path upload_path(const std::string& id) const;

  const std::filesystem::path directory_;
  BlockingPool& pool_;
  SystemRandom random_;
  std::map<std::string, std::shared_ptr<Upload>> uploads_;
  std::map<std::string, int> pins_;
  std::set<std::string> touched_;  // pinned since begin_collection()
};

}  // namespace hob::image
