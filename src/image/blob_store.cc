#include "image/blob_store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/log.h"
#include "image/content_digest.h"
#include "image/limits.h"
#include "image/records.h"

namespace hob::image {

namespace fs = std::filesystem;

namespace {

constexpr size_t kUploadIdDigits = 32;
constexpr size_t kOwnerBytesMax = 64 * 1024;
constexpr size_t kReadBytes = 256 * 1024;

// Writes at `size`; on failure the file is as it was.
Result<void> append_blocking(const fs::path& path, uint64_t size, std::string_view piece) {
  const Fd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file) return fail_errno(errno, "opening an upload");
  auto at = static_cast<off_t>(size);
  while (!piece.empty()) {
    const ssize_t wrote = ::pwrite(file.get(), piece.data(), piece.size(), at);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) {
      const int error = errno;
      static_cast<void>(::ftruncate(file.get(), static_cast<off_t>(size)));
      return fail_errno(error, "writing an upload");
    }
    piece.remove_prefix(static_cast<size_t>(wrote));
    at += wrote;
  }
  return {};
}

Result<std::string> digest_of_file(const fs::path& path) {
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return fail_errno(errno, "opening an upload");
  Sha256Hasher hasher;
  std::string buffer(kReadBytes, '\0');
  for (;;) {
    const ssize_t got = ::read(file.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno(errno, "reading an upload");
    if (got == 0) return to_digest(hasher.finish());
    hasher.update(std::string_view(buffer.data(), static_cast<size_t>(got)));
  }
}

Result<void> place_durably(const fs::path& from, const fs::path& to) {
  const Fd file(::open(from.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return fail_errno(errno, "opening an upload");
  if (::fsync(file.get()) != 0) return fail_errno(errno, "syncing an upload");
  if (::rename(from.c_str(), to.c_str()) != 0)
    return fail_errno(errno, "putting a blob in its place");
  return sync_directory(to.parent_path());
}

}  // namespace

BlobStore::BlobStore(fs::path directory, BlockingPool& pool)
    : directory_(std::move(directory)), pool_(pool) {}

Async<Result<void>> BlobStore::open() {
  const auto work = [directory = directory_]() -> Result<std::vector<std::shared_ptr<Upload>>> {
    for (const char* name : {"", "blobs", "blobs/sha256", "uploads", "removed"}) {
      HOB_CHECK(make_directories(directory / name, 0700));
    }
    HOB_CHECK(remove_tree(directory / "removed"));
    HOB_CHECK(make_directories(directory / "removed", 0700));
    std::vector<std::shared_ptr<Upload>> uploads;
    std::error_code error;
    for (fs::directory_iterator at(directory / "uploads", error), end; !error && at != end;
         at.increment(error)) {
      if (at->path().extension() != ".json") continue;
      const fs::path data = fs::path(at->path()).replace_extension();
      const Result<std::string> text = read_file(at->path(), kOwnerBytesMax);
      const Result<UploadOwner> owner = text ? decode_upload_owner(*text) : fail(text.error());
      std::error_code none;
      const uint64_t size = fs::file_size(data, none);
      if (!owner || none) {
        fs::remove(at->path(), none);
        fs::remove(data, none);
        continue;
      }
      auto upload = std::make_shared<Upload>();
      upload->id = data.filename().string();
      upload->account = owner->account;
      upload->repository = owner->repository;
      upload->size = size;
      uploads.push_back(std::move(upload));
    }
    if (error) return fail(Code::kUnavailable, "listing uploads: {}", error.message());
    return uploads;
  };
  HOB_CO_TRY(std::vector<std::shared_ptr<Upload>> found, co_await on_pool(pool_, work));
  for (std::shared_ptr<Upload>& upload : found) uploads_[upload->id] = std::move(upload);
  co_return Result<void>();
}

fs::path BlobStore::path(const std::string& digest) const {
  return directory_ / "blobs" / "sha256" / digest_hex(digest);
}

fs::path BlobStore::upload_path(const std::string& id) const { return directory_ / "uploads" / id; }

Async<Result<std::optional<uint64_t>>> BlobStore::size(std::string digest) {
  const auto work = [path = path(digest)]() -> Result<std::optional<uint64_t>> {
    struct stat status{};
    if (::stat(path.c_str(), &status) == 0) return static_cast<uint64_t>(status.st_size);
    if (errno == ENOENT) return std::nullopt;
    return fail_errno(errno, "looking for a blob");
  };
  co_return co_await on_pool(pool_, work);
}

Async<Result<std::string>> BlobStore::read(std::string digest, size_t bytes_max) {
  co_return co_await on_pool(
      pool_, [path = path(digest), bytes_max] { return read_file(path, bytes_max); });
}

Async<Result<void>> BlobStore::put(std::string digest, std::string content) {
  const auto work = [path = path(digest), content = std::move(content)] {
    return write_file_durably(path, content, 0600);
  };
  co_return co_await on_pool(pool_, work);
}

BlobStore::Pin::Pin(BlobStore& store, std::string digest)
    : store_(store), digest_(std::move(digest)) {
  ++store_.pins_[digest_];
  store_.touched_.insert(digest_);
}

BlobStore::Pin::~Pin() {
  if (--store_.pins_[digest_] == 0) store_.pins_.erase(digest_);
}

Async<Result<BlobStore::UploadLease>> BlobStore::begin_upload(std::string account,
                                                              std::string repository) {
  if (uploads_.size() >= kUploadsMax)
    co_return fail(Code::kLimit, "{} uploads are unfinished, no more are taken", kUploadsMax);
  auto upload = std::make_shared<Upload>();
  upload->id = random_hex(random_, kUploadIdDigits);
  upload->account = account;
  upload->repository = repository;
  uploads_[upload->id] = upload;
  UploadLease lease(upload);
  const std::string owner = encode(UploadOwner{.account = account, .repository = repository});
  const auto work = [path = upload_path(upload->id), owner]() -> Result<void> {
    const Fd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!file) return fail_errno(errno, "making an upload");
    const Fd beside(
        ::open((path.string() + ".json").c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!beside) return fail_errno(errno, "making an upload");
    if (::write(beside.get(), owner.data(), owner.size()) != static_cast<ssize_t>(owner.size())) {
      return fail_errno(errno, "making an upload");
    }
    return {};
  };
  const Result<void> made = co_await on_pool(pool_, work);
  if (!made) {
    uploads_.erase(upload->id);
    co_return fail(made.error());
  }
  co_return lease;
}

Result<BlobStore::UploadLease> BlobStore::lease_upload(const std::string& account,
                                                       const std::string& repository,
                                                       const std::string& id) {
  const auto found = uploads_.find(id);
  if (found == uploads_.end() || found->second->account != account ||
      found->second->repository != repository) {
    return fail(Code::kNotFound, "there is no such upload");
  }
  if (found->second->busy) return fail(Code::kConflict, "another request writes to this upload");
  return UploadLease(found->second);
}

Async<Result<void>> BlobStore::append(UploadLease& lease, std::string piece) {
  const std::shared_ptr<Upload> upload = lease.upload_;
  const size_t bytes = piece.size();
  if (bytes > kBlobBytesMax - std::min(kBlobBytesMax, upload->size)) {
    co_return fail(Code::kLimit, "a blob may have {} bytes at most", kBlobBytesMax);
  }
  // The lease is ours alone and the pool's work is awaited, so it may use the upload itself.
  const auto work = [upload, path = upload_path(upload->id), piece = std::move(piece)] {
    Result<void> written = append_blocking(path, upload->size, piece);
    if (written && upload->hashed == upload->size) {
      upload->hasher.update(piece);
      upload->hashed += piece.size();
    }
    return written;
  };
  HOB_CO_CHECK(co_await on_pool(pool_, work));
  upload->size += bytes;
  co_return Result<void>();
}

Async<Result<void>> BlobStore::finish(UploadLease lease, std::string digest) {
  const std::shared_ptr<Upload> upload = lease.upload_;
  const auto work = [upload, from = upload_path(upload->id), to = path(digest),
                     digest]() -> Result<void> {
    std::string got;
    if (upload->hashed == upload->size) {
      got = to_digest(upload->hasher.finish());
    } else {
      HOB_TRY(got, digest_of_file(from));
    }
    if (got != digest)
      return fail(Code::kInvalid, "the content's digest is {}, not {}", got, digest);
    HOB_CHECK(place_durably(from, to));
    ::unlink((from.string() + ".json").c_str());
    return {};
  };
  Result<void> finished = co_await on_pool(pool_, work);
  // The hasher is spent: whatever happened, the upload cannot go on.
  if (!finished) {
    HOB_CO_CHECK(co_await cancel(std::move(lease)));
  } else {
    uploads_.erase(upload->id);
  }
  co_return finished;
}

Async<Result<void>> BlobStore::cancel(UploadLease lease) {
  const std::shared_ptr<Upload> upload = lease.upload_;
  uploads_.erase(upload->id);
  const auto work = [path = upload_path(upload->id)]() -> Result<void> {
    if (::unlink(path.c_str()) != 0 && errno != ENOENT)
      return fail_errno(errno, "removing an upload");
    ::unlink((path.string() + ".json").c_str());
    return {};
  };
  co_return co_await on_pool(pool_, work);
}

Async<Result<size_t>> BlobStore::collect(std::set<std::string> in_use) {
  const auto list =
      [directory =
           directory_]() -> Result<std::pair<std::vector<std::string>, std::vector<std::string>>> {
    std::pair<std::vector<std::string>, std::vector<std::string>> old;  // digests, upload ids
    const auto now = fs::file_time_type::clock::now();
    std::error_code error;
    std::error_code gone;
    for (fs::directory_iterator at(directory / "blobs" / "sha256", error), end; !error && at != end;
         at.increment(error)) {
      const auto written = fs::last_write_time(at->path(), gone);
      if (!gone && now - written > kBlobIdleMin) {
        old.first.push_back(std::string(kDigestPrefix) + at->path().filename().string());
      }
    }
    for (fs::directory_iterator at(directory / "uploads", error), end; !error && at != end;
         at.increment(error)) {
      const auto written = fs::last_write_time(at->path(), gone);
      if (!gone && !at->path().has_extension() && now - written > kUploadIdleMax) {
        old.second.push_back(at->path().filename().string());
      }
    }
    if (error) return fail(Code::kUnavailable, "listing blobs: {}", error.message());
    return old;
  };
  HOB_CO_TRY(const auto old, co_await on_pool(pool_, list));
  size_t removed = 0;
  for (const std::string& digest : old.first) {
    if (in_use.contains(digest) || touched_.contains(digest) || pins_.contains(digest)) continue;
    // On the loop, where nothing can pin it between the look and the deed; the slow part comes
    // after.
    const fs::path grave = directory_ / "removed" / digest_hex(digest);
    if (is_digest(digest) && ::rename(path(digest).c_str(), grave.c_str()) == 0) ++removed;
  }
  for (const std::string& id : old.second) {
    const auto found = uploads_.find(id);
    if (found == uploads_.end() || found->second->busy) continue;
    HOB_CO_CHECK(co_await cancel(UploadLease(found->second)));
    ++removed;
  }
  const auto bury = [directory = directory_]() -> Result<void> {
    HOB_CHECK(remove_tree(directory / "removed"));
    return make_directories(directory / "removed", 0700);
  };
  HOB_CO_CHECK(co_await on_pool(pool_, bury));
  co_return removed;
}

}  // namespace hob::image
