#include "cli/archive_image.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/json.hpp>
#include <cerrno>
#include <optional>

#include "base/digest.h"

namespace hob::cli {
namespace {

namespace json = boost::json;

constexpr std::string_view kOciManifest = "application/vnd.oci.image.manifest.v1+json";
constexpr std::string_view kOciIndex = "application/vnd.oci.image.index.v1+json";
constexpr std::string_view kDockerManifest = "application/vnd.docker.distribution.manifest.v2+json";
constexpr std::string_view kDockerList =
    "application/vnd.docker.distribution.manifest.list.v2+json";
constexpr int kIndexDepthMax = 4;
constexpr size_t kBlobsMax = 512;

// The files of a layout or an archive, wherever they are.
class Files {
 public:
  virtual ~Files() = default;
  virtual Result<Blob> find(const std::string& name) const = 0;
};

class DirectoryFiles final : public Files {
 public:
  explicit DirectoryFiles(std::filesystem::path root) : root_(std::move(root)) {}
  Result<Blob> find(const std::string& name) const override {
    auto fd = std::make_shared<Fd>(open((root_ / name).c_str(), O_RDONLY | O_CLOEXEC));
    struct stat status {};
    if (!*fd || fstat(fd->get(), &status) != 0 || !S_ISREG(status.st_mode)) {
      return fail(Code::kNotFound, "there is no {}", name);
    }
    return Blob{.size = static_cast<uint64_t>(status.st_size), .file = std::move(fd)};
  }

 private:
  std::filesystem::path root_;
};

class TarFiles final : public Files {
 public:
  TarFiles(std::shared_ptr<Fd> file, std::map<std::string, FileRange> index)
      : file_(std::move(file)), index_(std::move(index)) {}
  Result<Blob> find(const std::string& name) const override {
    const auto found = index_.find(name);
    if (found == index_.end()) return fail(Code::kNotFound, "there is no {}", name);
    return Blob{.size = found->second.size, .file = file_, .offset = found->second.offset};
  }

 private:
  std::shared_ptr<Fd> file_;
  std::map<std::string, FileRange> index_;
};

Result<std::string> small_text(const Blob& blob, std::string_view what) {
  if (blob.size > kManifestBytesMax) return fail(Code::kLimit, "{} has {} bytes", what, blob.size);
  return blob.read(0, blob.size);
}

Result<json::value> parse(const std::string& text, std::string_view what) {
  boost::system::error_code error;
  json::value value = json::parse(text, error);
  if (error) return fail(Code::kCorrupt, "{} is not JSON", what);
  return value;
}

std::string text_of(const json::value& value, std::string_view key) {
  if (!value.is_object()) return {};
  const json::value* field = value.as_object().if_contains(key);
  return field != nullptr && field->is_string() ? std::string(field->as_string()) : std::string();
}

const json::array* array_of(const json::value& value, std::string_view key) {
  if (!value.is_object()) return nullptr;
  const json::value* field = value.as_object().if_contains(key);
  return field != nullptr ? field->if_array() : nullptr;
}

// "sha256:<64 hex>" -> its place in a layout.
Result<std::string> blob_name(const std::string& digest) {
  const size_t hex_digits = digest.size() > 7 ? digest.size() - 7 : 0;
  if (!digest.starts_with("sha256:") || hex_digits != 64 ||
      digest.find_first_not_of("0123456789abcdef", 7) != std::string::npos) {
    return fail(Code::kInvalid, "a descriptor has no sha256 digest");
  }
  return "blobs/sha256/" + digest.substr(7);
}

Result<std::string> layout_text(const Files& files, const std::string& digest) {
  HOB_TRY(const std::string name, blob_name(digest));
  HOB_TRY(const Blob blob, files.find(name));
  HOB_TRY(std::string text, small_text(blob, name));
  if ("sha256:" + hex(sha256(text)) != digest)
    return fail(Code::kCorrupt, "{} does not have its digest", name);
  return text;
}

bool is_for_us(const json::value& descriptor) {
  const json::value* platform =
      descriptor.is_object() ? descriptor.as_object().if_contains("platform") : nullptr;
  if (platform == nullptr) return true;
  return text_of(*platform, "os") == "linux" && text_of(*platform, "architecture") == "amd64";
}

std::string name_of(const json::value& descriptor) {
  const json::value* annotations =
      descriptor.is_object() ? descriptor.as_object().if_contains("annotations") : nullptr;
  if (annotations == nullptr) return {};
  // containerd and docker write the whole name; the specification's own annotation is often the tag
  // alone.
  std::string name = text_of(*annotations, "io.containerd.image.name");
  if (name.empty()) name = text_of(*annotations, "org.opencontainers.image.ref.name");
  return name;
}

// The config and the layers that a manifest names.
Result<std::vector<Blob>> blobs_of(const Files& files, const json::value& manifest) {
  std::vector<json::value> descriptors;
  if (const json::value* config =
          manifest.is_object() ? manifest.as_object().if_contains("config") : nullptr) {
    descriptors.push_back(*config);
  }
  if (const json::array* layers = array_of(manifest, "layers")) {
    descriptors.insert(descriptors.end(), layers->begin(), layers->end());
  }
  if (descriptors.size() > kBlobsMax)
    return fail(Code::kLimit, "the image has over {} layers", kBlobsMax);
  std::vector<Blob> blobs;
  for (const json::value& descriptor : descriptors) {
    const std::string digest = text_of(descriptor, "digest");
    HOB_TRY(const std::string name, blob_name(digest));
    HOB_TRY(Blob blob, files.find(name));
    blob.digest = digest;
    blobs.push_back(std::move(blob));
  }
  return blobs;
}

// Those of an index that refer to the image, by their own word.
Result<std::vector<Referrer>> referrers_of(const Files& files, const json::value& index,
                                           const std::string& image_digest) {
  std::vector<Referrer> found;
  for (const json::value& descriptor : *array_of(index, "manifests")) {
    if (found.size() == kReferrersMax) break;
    Referrer referrer{.media_type = text_of(descriptor, "mediaType"),
                      .digest = text_of(descriptor, "digest")};
    if (referrer.media_type != kOciManifest || referrer.digest == image_digest) continue;
    // Archives of one platform name the others' images, too, and do not hold them.
    const Result<std::string> name = blob_name(referrer.digest);
    if (!name || !files.find(*name)) continue;
    HOB_TRY(referrer.manifest, layout_text(files, referrer.digest));
    HOB_TRY(const json::value manifest, parse(referrer.manifest, "a manifest"));
    const json::value* subject =
        manifest.is_object() ? manifest.as_object().if_contains("subject") : nullptr;
    if (subject == nullptr || text_of(*subject, "digest") != image_digest) continue;
    HOB_TRY(referrer.blobs, blobs_of(files, manifest));
    found.push_back(std::move(referrer));
  }
  return found;
}

// Follows indexes down to the manifest for this machine.
Result<ArchiveImage> from_layout(const Files& files) {
  HOB_TRY(const Blob top, files.find("index.json"));
  HOB_TRY(std::string text, small_text(top, "index.json"));
  ArchiveImage image;
  for (int depth = 0; depth < kIndexDepthMax; ++depth) {
    HOB_TRY(const json::value index, parse(text, "the index"));
    const json::array* manifests = array_of(index, "manifests");
    if (manifests == nullptr || manifests->empty())
      return fail(Code::kInvalid, "the index names no image");
    const json::value* chosen = nullptr;
    for (const json::value& descriptor : *manifests) {
      if (chosen == nullptr && is_for_us(descriptor)) chosen = &descriptor;
    }
    if (chosen == nullptr) return fail(Code::kInvalid, "it has no image for linux/amd64");
    if (image.name.empty()) image.name = name_of(*chosen);
    image.digest = text_of(*chosen, "digest");
    image.media_type = text_of(*chosen, "mediaType");
    HOB_TRY(text, layout_text(files, image.digest));
    if (image.media_type == kOciIndex || image.media_type == kDockerList) continue;

    HOB_TRY(const json::value manifest, parse(text, "the manifest"));
    if (image.media_type.empty()) image.media_type = text_of(manifest, "mediaType");
    if (image.media_type.empty()) image.media_type = kOciManifest;
    image.manifest = text;
    HOB_TRY(image.blobs, blobs_of(files, manifest));
    HOB_TRY(image.referrers, referrers_of(files, index, image.digest));
    return image;
  }
  return fail(Code::kInvalid, "its indexes are nested too deeply");
}

Result<std::string> digest_of(const Blob& blob) {
  Sha256Hasher hasher;
  constexpr size_t kPiece = 1024 * 1024;
  for (uint64_t at = 0; at < blob.size; at += kPiece) {
    HOB_TRY(const std::string piece, blob.read(at, kPiece));
    hasher.update(piece);
  }
  return "sha256:" + hex(hasher.finish());
}

json::object descriptor_of(const Blob& blob, std::string_view media_type) {
  return {{"mediaType", media_type}, {"size", blob.size}, {"digest", blob.digest}};
}

// A `docker save` archive: manifest.json lists a config and layers by file name; the registry's
// manifest is made here.
Result<ArchiveImage> from_docker_archive(const Files& files) {
  HOB_TRY(const Blob list, files.find("manifest.json"));
  HOB_TRY(const std::string text, small_text(list, "manifest.json"));
  HOB_TRY(const json::value value, parse(text, "manifest.json"));
  const json::array* images = value.if_array();
  if (images == nullptr || images->empty())
    return fail(Code::kInvalid, "manifest.json names no image");
  const json::value& first = images->at(0);
  ArchiveImage image{.media_type = std::string(kDockerManifest)};
  if (const json::array* tags = array_of(first, "RepoTags"); tags != nullptr && !tags->empty()) {
    if (tags->at(0).is_string()) image.name = tags->at(0).as_string();
  }
  HOB_TRY(Blob config, files.find(text_of(first, "Config")));
  HOB_TRY(config.bytes, small_text(config, "the config"));
  config.digest = "sha256:" + hex(sha256(config.bytes));
  json::object manifest = {{"schemaVersion", 2}, {"mediaType", kDockerManifest}};
  manifest["config"] = descriptor_of(config, "application/vnd.docker.container.image.v1+json");
  image.blobs.push_back(config);
  json::array layers;
  const json::array* names = array_of(first, "Layers");
  if (names != nullptr && names->size() > kBlobsMax) {
    return fail(Code::kLimit, "the image has over {} layers", kBlobsMax);
  }
  for (const json::value& name : names != nullptr ? *names : json::array()) {
    if (!name.is_string()) return fail(Code::kInvalid, "manifest.json has a layer without a name");
    HOB_TRY(Blob layer, files.find(std::string(name.as_string())));
    HOB_TRY(const std::string magic, layer.read(0, 2));
    const bool gzip = magic == "\x1f\x8b";
    HOB_TRY(layer.digest, digest_of(layer));
    layers.push_back(descriptor_of(layer, gzip ? "application/vnd.docker.image.rootfs.diff.tar.gzip"
                                               : "application/vnd.docker.image.rootfs.diff.tar"));
    image.blobs.push_back(std::move(layer));
  }
  manifest["layers"] = std::move(layers);
  image.manifest = json::serialize(manifest);
  image.digest = "sha256:" + hex(sha256(image.manifest));
  return image;
}

Result<ArchiveImage> from_files(const Files& files) {
  if (files.find("index.json")) return from_layout(files);
  if (files.find("manifest.json")) return from_docker_archive(files);
  return fail(Code::kInvalid, "it is neither an OCI layout nor a docker archive");
}

}  // namespace

Result<std::string> Blob::read(uint64_t from, size_t bytes_wanted) const {
  const size_t wanted =
      from >= size ? 0 : static_cast<size_t>(std::min<uint64_t>(bytes_wanted, size - from));
  if (!file) return bytes.substr(from, wanted);
  std::string out(wanted, '\0');
  for (size_t done = 0; done < wanted;) {
    const ssize_t got = pread(file->get(), out.data() + done, wanted - done,
                              static_cast<off_t>(offset + from + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno(errno, "reading the image");
    if (got == 0) return fail(Code::kCorrupt, "the image's file became shorter");
    done += static_cast<size_t>(got);
  }
  return out;
}

Result<ArchiveImage> open_archive_image(const std::filesystem::path& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) {
    const DirectoryFiles files(path);
    return context(from_files(files), "{}", path.string());
  }
  auto file = std::make_shared<Fd>(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!*file) return fail_errno(errno, "opening " + path.string());
  const Blob whole{.size = 6, .file = file};
  const Result<std::string> magic = whole.read(0, 6);
  if (magic && magic->starts_with("\x1f\x8b")) {
    return fail(Code::kInvalid, "{} is compressed; first: gunzip {}", path.string(), path.string());
  }
  HOB_TRY(auto index, context(index_tar(*file), "{}", path.string()));
  const TarFiles files(file, std::move(index));
  return context(from_files(files), "{}", path.string());
}

}  // namespace hob::cli
