#include "image/records.h"

#include "base/record.h"
#include "image/content_digest.h"
#include "image/image_store.h"
#include "image/stored_image.h"

namespace hob::image {

BOOST_DESCRIBE_STRUCT(ImageConfig, (),
                      (entry_point, command, environment, user, working_directory, stop_signal,
                       volumes))
BOOST_DESCRIBE_STRUCT(StoredImage, (), (digest, config, diff_ids))
BOOST_DESCRIBE_STRUCT(Repository, (),
                      (id, account, name, created_at, immutable_tags, scan_on_push, tags))
BOOST_DESCRIBE_STRUCT(Image, (),
                      (digest, media_type, artifact_type, manifest_bytes, bytes, pushed_at, subject,
                       annotations, blobs, manifests))
BOOST_DESCRIBE_STRUCT(TagTarget, (), (digest))
BOOST_DESCRIBE_STRUCT(BlobLink, (), (bytes, linked_at))
BOOST_DESCRIBE_STRUCT(LoginRecord, (), (registry, username, password))
BOOST_DESCRIBE_STRUCT(UploadOwner, (), (account, repository))

std::string encode(const StoredImage& image) { return record::encode(image); }

Result<StoredImage> decode_stored_image(std::string_view json) {
  HOB_TRY(StoredImage image, record::decode<StoredImage>(json));
  if (!is_digest(image.digest)) return fail(Code::kCorrupt, "digest: no digest");
  for (const std::string& diff_id : image.diff_ids) {
    if (!is_digest(diff_id)) return fail(Code::kCorrupt, "diff_ids: no digest");
  }
  return image;
}

std::string encode(const Repository& repository) { return record::encode(repository); }
std::string encode_over(const Repository& repository, std::string_view previous) {
  return record::encode_over(repository, previous);
}
std::string encode(const Image& image) { return record::encode(image); }
std::string encode(const TagTarget& target) { return record::encode(target); }
std::string encode(const BlobLink& link) { return record::encode(link); }
std::string encode(const LoginRecord& login) { return record::encode(login); }
std::string encode(const UploadOwner& owner) { return record::encode(owner); }
Result<Repository> decode_repository(std::string_view json) {
  return record::decode<Repository>(json);
}
Result<Image> decode_image(std::string_view json) { return record::decode<Image>(json); }
Result<TagTarget> decode_tag(std::string_view json) { return record::decode<TagTarget>(json); }
Result<BlobLink> decode_blob_link(std::string_view json) { return record::decode<BlobLink>(json); }
Result<LoginRecord> decode_login(std::string_view json) {
  return record::decode<LoginRecord>(json);
}
Result<UploadOwner> decode_upload_owner(std::string_view json) {
  return record::decode<UploadOwner>(json);
}

}  // namespace hob::image
