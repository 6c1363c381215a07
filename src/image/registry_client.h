// Reads manifests and blobs of one repository of any registry: OCI distribution 1.1 and Docker's,
// with their ways to log in.
//
// Blocks; a client belongs to one thread, but clients of one pull share a RegistryLogin. Network
// errors are retried with back-off, an interrupted blob goes on where it stopped. The errors are
// ImageStore::pull's.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>

#include "base/result.h"
#include "image/byte_source.h"
#include "image/image_store.h"
#include "image/manifest.h"
#include "image/transfer.h"

namespace hob::image {

inline constexpr int kAttemptsMax = 4;  // of a request, without a byte of progress between them

struct RegistryTimeouts {
  TransferTimeouts transfer{};
  Duration retry_min{200};
  Duration retry_max{5'000};
};

// The authorization in use for a pull's repository: found once by a challenge, used by all its
// clients.
class RegistryLogin {
 public:
  std::string authorization() const;  // a header's value; empty: none
  void set(std::string authorization);

 private:
  mutable std::mutex mutex_;
  std::string authorization_;
};

struct FetchedManifest {
  Manifest manifest{};
  std::string digest{};  // of `text`, verified where a digest was asked for
  std::string text{};
};

class RegistryClient {
 public:
  // All must outlive the client. The request's fields must have been checked (image/reference.h).
  RegistryClient(const PullRequest& request, const RegistryTimeouts& timeouts, RegistryLogin& login,
                 const std::atomic<bool>& abort);
  // `reference`: a tag or digest.
  Result<FetchedManifest> manifest(const std::string& reference);
  // A small blob whole, its size and digest verified.
  Result<std::string> blob(const Descriptor& descriptor);
  // A blob as it comes: neither size nor digest verified, but no more bytes than `descriptor.size`
  // are given. One at a time; ends before the client.
  std::unique_ptr<ByteSource> open_blob(const Descriptor& descriptor);

 private:
  friend class BlobSource;
  // An answer with status 200 or 206. `path` is after "/v2/REPOSITORY/".
  Result<std::unique_ptr<Transfer>> open(const std::string& path, const std::string& accept,
                                         uint64_t from);
  Result<void> answer_challenge(const Transfer& refused);
  Result<void> fetch_token(std::string_view challenge);
  // Waits before attempt `attempt` (1: the first retry). kCancelled: aborted.
  Result<void> wait_to_retry(int attempt);

  const PullRequest& request_;
  const RegistryTimeouts& timeouts_;
  RegistryLogin& login_;
  const std::atomic<bool>& abort_;
  Session session_;
};

// The parameters of a challenge ("Bearer realm=\"…\",service=\"…\""): scheme in lower case, then
// the value of a name.
struct Challenge {
  std::string scheme{};
  std::map<std::string, std::string> parameters{};  // names in lower case
};
Challenge parse_challenge(std::string_view text);

}  // namespace hob::image
