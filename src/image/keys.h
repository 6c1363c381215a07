// Keys of image's records. The account comes after the noun, so that a noun can be watched for all
// accounts.
//
// What belongs to a repository hangs under its id, not its name: a repository that is made anew
// under an old name never sees what the old one had, even if its removal was cut short.
#pragma once

#include <string>
#include <string_view>

#include "base/http.h"

namespace hob::image {

inline constexpr std::string_view kRepositoriesPrefix =
    "/image/repositories/";                                          // <account>/<name, '/' as %2F>
inline constexpr std::string_view kImagesPrefix = "/image/images/";  // <account>/<id>/<digest>
inline constexpr std::string_view kTagsPrefix = "/image/tags/";    // <account>/<id>/<tag> -> digest
inline constexpr std::string_view kBlobsPrefix = "/image/blobs/";  // <account>/<id>/<digest>
inline constexpr std::string_view kReferrersPrefix =
    "/image/referrers/";  // <account>/<id>/<subject>/<digest>
inline constexpr std::string_view kLoginsPrefix = "/image/logins/";  // <account>/<registry>

// An account's or, with `repository` (an id), a repository's part of a prefix; ends in '/'.
inline std::string prefix_of(std::string_view prefix, std::string_view account,
                             std::string_view repository = {}) {
  std::string key(prefix);
  key.append(account).append("/");
  if (!repository.empty()) key.append(repository).append("/");
  return key;
}
inline std::string repository_key(std::string_view account, std::string_view name) {
  return prefix_of(kRepositoriesPrefix, account) + http::percent_encode(name, http::Slash::kEscape);
}
inline std::string image_key(std::string_view account, std::string_view repository,
                             std::string_view digest) {
  return prefix_of(kImagesPrefix, account, repository).append(digest);
}
inline std::string tag_key(std::string_view account, std::string_view repository,
                           std::string_view tag) {
  return prefix_of(kTagsPrefix, account, repository).append(tag);
}
inline std::string blob_key(std::string_view account, std::string_view repository,
                            std::string_view digest) {
  return prefix_of(kBlobsPrefix, account, repository).append(digest);
}
inline std::string referrers_prefix(std::string_view account, std::string_view repository,
                                    std::string_view subject) {
  return prefix_of(kReferrersPrefix, account, repository).append(subject).append("/");
}
inline std::string login_key(std::string_view account, std::string_view registry) {
  return prefix_of(kLoginsPrefix, account) + http::percent_encode(registry, http::Slash::kEscape);
}
// What follows the last '/' of a key: a tag, a digest.
inline std::string last_part(std::string_view key) {
  return std::string(key.substr(key.rfind('/') + 1));
}

}  // namespace hob::image
