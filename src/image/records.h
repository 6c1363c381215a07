// The registry's records: repositories, the images in them, their blobs, logins to other
// registries. Keys: keys.h.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/time.h"

namespace hob::image {

struct Repository {
  std::string id{};  // 16 hex; what its images, tags and blobs hang under
  std::string account{};
  std::string name{};
  Instant created_at{};
  bool immutable_tags = false;
  bool scan_on_push = false;
  std::map<std::string, std::string> tags{};  // of the resource, not of images
};

struct Image {
  std::string digest{};
  std::string media_type{};
  std::string artifact_type{};
  uint64_t manifest_bytes = 0;
  uint64_t bytes = 0;  // of config and layers, compressed; of an index: of the manifest alone
  Instant pushed_at{};
  std::string subject{};  // digest; empty: none
  std::map<std::string, std::string> annotations{};
  std::vector<std::string> blobs{};      // digests of config and layers
  std::vector<std::string> manifests{};  // digests an index lists
};

struct TagTarget {
  std::string digest{};
};

struct BlobLink {
  uint64_t bytes = 0;
  Instant linked_at{};
};

struct LoginRecord {
  std::string registry{};
  std::string username{};
  std::string password{};  // secret; the store's file is readable by root alone
};

struct UploadOwner {  // beside an unfinished upload, on disk
  std::string account{};
  std::string repository{};  // name
};

std::string encode(const Repository& repository);
std::string encode_over(const Repository& repository, std::string_view previous);
std::string encode(const Image& image);
std::string encode(const TagTarget& target);
std::string encode(const BlobLink& link);
std::string encode(const LoginRecord& login);
std::string encode(const UploadOwner& owner);
Result<Repository> decode_repository(std::string_view json);
Result<Image> decode_image(std::string_view json);
Result<TagTarget> decode_tag(std::string_view json);
Result<BlobLink> decode_blob_link(std::string_view json);
Result<LoginRecord> decode_login(std::string_view json);
Result<UploadOwner> decode_upload_owner(std::string_view json);

}  // namespace hob::image
