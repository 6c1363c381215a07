// An image in files: an OCI layout (a directory, or a tar of one) or a `docker save` archive, as
// what a registry wants: a manifest and the blobs it names.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "cli/tar_index.h"

namespace hob::cli {

inline constexpr size_t kManifestBytesMax = 4 * 1024 * 1024;  // manifests, indexes and configs

struct Blob {
  std::string digest{};  // "sha256:…"
  uint64_t size = 0;
  std::shared_ptr<Fd> file{};  // null: `bytes` is all of it
  uint64_t offset = 0;
  std::string bytes{};

  // `size` bytes from `from`, fewer at the end. kUnavailable.
  Result<std::string> read(uint64_t from, size_t bytes_wanted) const;
};

// What an archive says of its image: a bill of materials, a provenance, a signature.
struct Referrer {
  std::string media_type{};  // of its manifest
  std::string manifest{};
  std::string digest{};
  std::vector<Blob> blobs{};
};
inline constexpr size_t kReferrersMax = 16;  // of an archive; more are left behind

struct ArchiveImage {
  std::string name{};        // what the archive calls it ("app:1"), empty if nothing
  std::string media_type{};  // of the manifest
  std::string manifest{};
  std::string digest{};       // of the manifest
  std::vector<Blob> blobs{};  // config and layers, each once
  std::vector<Referrer>
      referrers{};  // OCI 1.1: whose `subject` is the image, beside it in its index
};

// Takes the image for linux/amd64 where there are several. kNotFound: no such file. kInvalid: no
// image archive, says what it is instead where it can. kCorrupt: a blob is missing or its digest
// does not fit (layers are checked by the registry when they arrive).
Result<ArchiveImage> open_archive_image(const std::filesystem::path& path);

}  // namespace hob::cli
