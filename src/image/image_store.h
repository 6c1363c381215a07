// A host's images: pulled once, verified, unpacked into layers that tasks share.
//
// Layout under its directory (0700 root): layers/sha256/<diff id>/ (one unpacked layer each, owned
// by plain root; the sandbox maps ids when it mounts), images/<digest>-<source>.json, tmp/ (emptied
// at start). An image or layer is there whole or not at all, also after kill -9. Belongs to one
// loop; blocking work runs on the pool.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/async.h"
#include "base/result.h"

namespace hob::image {

// What to pull and as whom; the same meaning as link::ImageSource, field by field.
struct PullRequest {
  std::string registry{};
  bool plain_http = false;
  std::string repository{};
  std::string reference{};  // digest or tag
  std::string username{};
  std::string password{};
  std::string account{};  // for whom; what one pulled says nothing of what another may
};

// The part of an image's config that running it needs.
struct ImageConfig {
  std::vector<std::string> entry_point{};
  std::vector<std::string> command{};
  std::vector<std::string> environment{};  // "K=V"
  std::string user{};                      // "", "1000", "www-data:www-data"
  std::string working_directory{};
  std::string stop_signal{};           // "", "SIGQUIT", "3"
  std::vector<std::string> volumes{};  // paths
};

struct LocalImage {
  std::string
      digest{};  // of the manifest that was run (a platform's, where an index was asked for)
  ImageConfig config{};
  std::vector<std::filesystem::path> layers{};  // top first, as overlayfs's lowerdir wants them
};

// Pulls that run at once, each on a thread of its own. A registry that stalls has its own waiting,
// not the others': it takes four such, and a fifth, to hold anybody up.
inline constexpr size_t kPullsAtOnce = 16;
inline constexpr size_t kPullsPerRegistry = 4;  // of one host and port; more wait, oldest first
static_assert(kPullsPerRegistry < kPullsAtOnce);

struct PullSettings;  // limits and time-outs (image/puller.h), which tests make small

class ImageStore {
 public:
  // `directory` is made if it is missing. The pool must outlive the store.
  ImageStore(std::filesystem::path directory, BlockingPool& pool);
  ImageStore(std::filesystem::path directory, BlockingPool& pool, PullSettings settings);
  // Every pull must have ended.
  ~ImageStore();
  // Empties tmp/, forgets what is damaged. Call first.
  Async<Result<void>> open();
  // The image, pulled if it (or some layer of it) is not here. Pulls of one image at the same time
  // are one pull. A digest that the same account and user have pulled from the same repository, and
  // that is here whole, is answered without a network; anybody else asks the registry first, and
  // shares the layers. Errors, ready for
  // "CannotPullContainerError: …": kNotFound (no such image), kDenied (credentials), kUnavailable
  // (network), kTimeout (stalled), kCorrupt (a digest does not match, a layer is no archive or
  // breaks a rule), kLimit (too large, too many layers or entries).
  Async<Result<LocalImage>> pull(PullRequest request);
  // Removes images and layers not named by `keep` (digests), not used in the last `unused_for`.
  Async<Result<void>> prune(std::vector<std::string> keep, Duration unused_for);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace hob::image
